"""How well a fetched map and its model belong together, and which pairs are left out for it."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.residues import residue_groups
from cryoready.core.volume import FloatArray, Volume
from cryoready.dataset.prepare import Pair
from cryoready.density.model_mask import model_mask
from cryoready.density.solvent import empty_region
from cryoready.density.structure_factors import model_density, structure_factors
from cryoready.files.sequences import sequences
from cryoready.metrics.correlation import pearson

MARGIN = 8.0  # Å around the model; changes CC_mask of a whole map by less than 0.001
LONGEST_SHIFT = 4  # voxels of the network's grid
SHORTEST_SEQUENCE = 10  # residues; what repeats must be longer
BACKBONE = ("N", "CA", "C", "O", "OXT", "CB")
UNKNOWN = ("UNK", "N", "DN")


@dataclass(frozen=True)
class Quality:
    """What is known of a pair of map and model; None where a map is constant.

    Parameters
    ----------
    overlap
        share of the occupied heavy atoms whose nearest voxel lies in the box of the map, and not
        where its depositor masked it away (`empty_region`).
    cc_mask
        CC_mask of the map on its own grid (`metrics.correlation`; Afonine et al. 2018, doi
        10.1107/S2059798318009324).
    cc_mask_1A
        the same of the map of the pair: resampled to 1 Å, clipped to 0-1, solvent filled in.
    shift
        Å by which the target would have to be moved to fit the map of the pair best, at most about
        4 Å along each axis (`best_shift`).
    residues
        of polymers.
    backbone_only
        share of the amino acids other than glycine without a heavy atom beyond N, CA, C, O, OXT and
        CB. Alanines count, since traces are built of them: a protein of average composition
        (UniProtKB/Swiss-Prot: 8.3 % alanine, 7.1 % glycine) has 0.09 from them alone.
    unknown
        share of the polymers' residues that are UNK, N or DN.
    nucleic_acid
        share of the polymers' residues.
    copies
        how often the most frequent of the modelled sequences of more than 10 residues is there.
    atoms
        all of them.
    """

    overlap: float
    cc_mask: float | None
    cc_mask_1A: float | None
    shift: float
    residues: int
    backbone_only: float
    unknown: float
    nucleic_acid: float
    copies: int
    atoms: int

    def __str__(self) -> str:
        """What matters most, in a line."""
        before, after = (
            "–" if cc is None else f"{cc:.2f}" for cc in (self.cc_mask, self.cc_mask_1A)
        )
        return f"CC {before} (1 Å: {after}), shift {self.shift:.2f} Å, overlap {self.overlap:.2f}"

    def as_row(self) -> dict[str, float | int | None]:
        """Values by name, shares and correlations to four decimals."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def measure(volume: Volume, atoms: Atoms, pair: Pair) -> Quality:
    """All of `Quality`.

    Parameters
    ----------
    volume
        the map on its own grid.
    atoms
        the model of which the target was made.
    pair
        made of both by `prepare_pair`.

    Raises
    ------
    CryoreadyError
        if the model has no occupied heavy atom.
    """
    map_1A, target = (v.around(atoms.coords, MARGIN) for v in (pair.map, pair.target))
    return Quality(
        overlap=overlap(volume, atoms),
        cc_mask=cc_mask(volume, atoms, resolution=pair.resolution),
        cc_mask_1A=cc_mask(pair.map, atoms, resolution=pair.resolution),
        shift=float(np.linalg.norm(best_shift(map_1A, target))),
        copies=copies(atoms),
        atoms=len(atoms),
        **composition(atoms),
    )


def overlap(volume: Volume, atoms: Atoms) -> float:
    """Share of the occupied heavy atoms that lie in ``volume``, where it is not masked away."""
    coords = atoms.coords[atoms.heavy & (atoms.occupancy > 0)]
    if not len(coords):
        raise CryoreadyError(
            f"the model has no occupied heavy atom among its {len(atoms)} atoms: give another"
        )
    voxel = np.rint((coords - volume.origin) / volume.voxel_size).astype(int)
    z, y, x = voxel[((voxel >= 0) & (voxel < volume.data.shape)).all(axis=1)].T
    return float(np.count_nonzero(~empty_region(volume.data)[z, y, x]) / len(coords))


def cc_mask(volume: Volume, atoms: Atoms, *, resolution: float) -> float | None:
    """CC_mask of the part of a map around its model, the model truncated at ``resolution`` Å."""
    part = volume.around(atoms.coords, MARGIN)
    density = model_density(structure_factors(atoms, part.grid), part.grid, resolution=resolution)
    inside = model_mask(atoms, part.grid)
    return pearson(part.data[inside], density[inside])


def best_shift(volume: Volume, target: Volume) -> NDArray[np.float64]:
    """Å, (3,) zyx, by which ``target`` would fit ``volume``, on the same grid, best.

    The highest cross-correlation within 4 voxels; a parabola through it and its two neighbours on
    each axis gives the fraction of a voxel.
    """
    first, second = (scipy.fft.rfftn(v.data) for v in (volume, target))
    cross = scipy.fft.irfftn(first * second.conj(), volume.data.shape)
    near = np.arange(-LONGEST_SHIFT - 1, LONGEST_SHIFT + 2)
    cross = cross[np.ix_(*(near % n for n in cross.shape))]
    inner = cross[1:-1, 1:-1, 1:-1]
    peak = np.array(np.unravel_index(inner.argmax(), inner.shape)) + 1
    fraction = [
        _vertex(np.moveaxis(cross, k, 0)[:, *np.delete(peak, k)], peak[k]) for k in range(3)
    ]
    return (near[peak] + fraction) * volume.voxel_size


def _vertex(values: FloatArray, peak: int) -> float:
    """Where the parabola through a maximum and its neighbours has its own, from ``peak``."""
    before, here, after = values[peak - 1 : peak + 2].astype(float)
    bend = 2 * here - before - after
    return float(np.clip((after - before) / (2 * bend), -0.5, 0.5)) if bend > 0 else 0.0


def copies(atoms: Atoms) -> int:
    """How often the most frequent sequence of more than 10 residues is there."""
    found = [*sequences(atoms, "protein").values(), *sequences(atoms, "nucleic").values()]
    long = Counter(sequence for sequence in found if len(sequence) > SHORTEST_SEQUENCE)
    return max(long.values(), default=0)


def composition(atoms: Atoms) -> dict[str, Any]:
    """``residues``, ``backbone_only``, ``unknown`` and ``nucleic_acid`` of `Quality`."""
    polymer = atoms.take(atoms.polymer != "")
    residue, first = residue_groups(polymer)
    name, kind = polymer.residue_name[first], polymer.polymer[first]
    side_chain = polymer.heavy & ~np.isin(polymer.name, BACKBONE)
    bare = np.bincount(residue[side_chain], minlength=len(first)) == 0
    return {
        "residues": len(first),
        "backbone_only": _share(bare[(kind == "protein") & (name != "GLY")]),
        "unknown": _share(np.isin(name, UNKNOWN)),
        "nucleic_acid": _share(kind == "nucleic"),
    }


def _share(chosen: NDArray[np.bool_]) -> float:
    """Of an empty list 0."""
    return float(chosen.mean()) if chosen.size else 0.0
