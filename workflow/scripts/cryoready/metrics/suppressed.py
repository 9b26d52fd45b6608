"""What an enhanced map no longer shows: density of the input that the output suppressed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label, map_coordinates
from scipy.spatial import cKDTree

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Vector, Volume

FRACTION = 0.5  # of the matching contour: below it, no reasonable level shows it
RIM = 1.5  # Å
LEAST_VOLUME = 15.0  # Å³, about one water or methyl group
NEAR = 2.0  # Å from an atom: density of the model
IN_BLOB = 1.5  # Å from an atom to a suppressed voxel
WATERS = ("HOH", "DOD", "WAT", "H2O")
#: Monosaccharides of glycoproteins by their names in the PDB's chemical component dictionary.
SUGARS = (
    *("NAG", "NDG", "NGA", "A2G", "BMA", "MAN", "GAL", "GLA", "GLC", "BGC", "FUC", "FUL", "SIA"),
    *("SLB", "NGC", "XYS", "XYP", "RAM", "ARA", "AHR", "BDP", "GCU", "GTR", "ADA", "IDS", "SGN"),
)


@dataclass(frozen=True)
class Blob:
    """One connected piece of suppressed density.

    Parameters
    ----------
    centre_xyz
        centre of its mass in the input, Å, in the frame of the map.
    volume
        Å³.
    share
        of the input's density above the contour.
    peak
        highest input value, in units of the input's contour.
    nearest, distance
        the residue ("D/LEU 75") of the atom nearest to the centre, and how far it is, Å; None
        without a model.
    residues
        of the model with an atom within 1.5 Å of it.
    small_molecules
        the ligands, glycans and ions among them.
    """

    centre_xyz: tuple[float, float, float]
    volume: float
    share: float
    peak: float
    nearest: str | None
    distance: float | None
    residues: int
    small_molecules: tuple[str, ...]


@dataclass(frozen=True)
class SmallMolecule:
    """What became of a ligand, glycan or ion of the model.

    Parameters
    ----------
    residue
        "A/HEM 201".
    kind
        "ligand", "glycan" (a sugar) or "ion" (a single atom).
    atoms
        other than hydrogen; each is one of the three below.
    kept, suppressed
        share of the atoms above the contour in the input; there, of those that are at least, or
        below, half the matching contour in the output.
    not_seen
        share of the atoms below the contour already in the input.
    """

    residue: str
    kind: str
    atoms: int
    kept: float
    suppressed: float
    not_seen: float


@dataclass(frozen=True)
class Suppressed:
    """Density above the contour of the input that the output suppressed.

    Parameters
    ----------
    contours
        of input and output.
    share, share_of_volume
        of the input's density above its contour, and of the volume there.
    share_of_model
        of that density within 2 Å of an atom; None without a model or when there is none.
    blobs
        the largest ones of at least 15 Å³.
    blob_count
        of all those of at least 15 Å³.
    small_molecules
        every ligand, glycan and ion of the model, the most suppressed first.
    """

    contours: tuple[float, float]
    share: float
    share_of_volume: float
    share_of_model: float | None
    blobs: tuple[Blob, ...]
    blob_count: int
    small_molecules: tuple[SmallMolecule, ...]


def suppressed_density(
    before: Volume,
    after: Volume,
    *,
    contours: tuple[float, float],
    atoms: Atoms | None = None,
    most: int = 10,
) -> Suppressed:
    """What ``before`` shows and ``after`` does not.

    At contours of equal volume some surface always changes sides; it is not counted. A voxel is
    lost when its input is at or above the contour and its output below half the matching contour.
    Suppressed are the lost voxels farther than 1.5 Å from what the output shows, and the lost
    voxels within 1.5 Å of those: what was merely sharpened or shifted keeps its density nearby.
    A monotone change of the values suppresses nothing.

    Parameters
    ----------
    before, after
        input and output on one grid.
    contours
        of the input, positive, and the level of the output that encloses the same volume.
    atoms
        the model, in the frame of the maps.
    most
        blobs returned.

    Raises
    ------
    CryoreadyError
        if the contour of the input is not positive or encloses nothing.
    """
    _check(before, after, contours[0])
    level = max(contours[1], float(np.finfo(np.float32).tiny))  # 0: the output is empty elsewhere
    above = before.data >= contours[0]
    lost = above & (after.data < FRACTION * level)
    suppressed = _without_rims(lost, after.data >= level, before)
    density = before.data[above].astype(np.float64)
    gone = suppressed[above]
    total = float(density.sum())
    of_model = None
    if atoms is not None:
        near = _distance(_points(above, before), atoms.coords, NEAR) < NEAR
        of_model = float((density * gone)[near].sum() / density[near].sum()) if near.any() else None
    blobs, blob_count = _blobs(suppressed, before, contours[0], total, atoms, most)
    fates = [] if atoms is None else _fates(before, after, contours[0], FRACTION * level, atoms)
    return Suppressed(
        contours=contours,
        share=float((density * gone).sum() / total),
        share_of_volume=float(gone.mean()),
        share_of_model=of_model,
        blobs=tuple(blobs),
        blob_count=blob_count,
        small_molecules=tuple(fates),
    )


def _check(before: Volume, after: Volume, contour: float) -> None:
    """Raise unless the maps share a grid and the contour encloses something."""
    if before.data.shape != after.data.shape or not np.allclose(before.origin, after.origin):
        raise ValueError(f"input {before.grid} and output {after.grid} are not on one grid")
    if not 0 < contour <= before.data.max():
        raise CryoreadyError(
            f"contour {contour:g} shows nothing to compare: it must be positive and at most the "
            f"highest density of the map, {before.data.max():g}; give another in the sheet"
        )


def _points(mask: NDArray[np.bool_], volume: Volume) -> Vector:
    """(n, 3) zyx, Å: centres of the voxels in ``mask``, in the order of ``array[mask]``."""
    return np.asarray(volume.origin + np.argwhere(mask) * volume.voxel_size)


def _distance(points: Vector, others: Vector, limit: float) -> Vector:
    """(n,) Å from each point to the nearest of the others; infinite from ``limit`` on."""
    if not len(others):
        return np.full(len(points), np.inf)
    return np.asarray(cKDTree(others).query(points, distance_upper_bound=limit)[0])


def _without_rims(
    lost: NDArray[np.bool_], shown: NDArray[np.bool_], volume: Volume
) -> NDArray[np.bool_]:
    """Lost voxels that are, or lie within 1.5 Å of, ones farther than that from what is shown."""
    points = _points(lost, volume)
    deep = points[np.isinf(_distance(points, _points(shown, volume), RIM))]
    suppressed = np.zeros_like(lost)
    suppressed[lost] = np.isfinite(_distance(points, deep, RIM))
    return suppressed


def _blobs(
    suppressed: NDArray[np.bool_],
    volume: Volume,
    contour: float,
    total: float,
    atoms: Atoms | None,
    most: int,
) -> tuple[list[Blob], int]:
    """The ``most`` densest connected pieces (26 neighbours) of at least 15 Å³, and their number."""
    numbers, _ = label(suppressed, np.ones((3, 3, 3)))
    number = numbers[suppressed] - 1
    density = volume.data[suppressed].astype(np.float64)
    points = _points(suppressed, volume)
    size = np.bincount(number) * volume.voxel_size.prod()
    mass = np.bincount(number, density)
    large = np.flatnonzero(size >= LEAST_VOLUME)
    blobs = []
    for k in large[np.argsort(-mass[large], kind="stable")][:most]:
        own = number == k
        centre = density[own] @ points[own] / mass[k]
        z, y, x = centre.tolist()
        blobs.append(
            Blob(
                (x, y, z),
                float(size[k]),
                float(mass[k] / total),
                float(density[own].max() / contour),
                *((None, None, 0, ()) if atoms is None else _model_at(points[own], centre, atoms)),
            )
        )
    return blobs, len(large)


def _model_at(
    points: Vector, centre: Vector, atoms: Atoms
) -> tuple[str, float, int, tuple[str, ...]]:
    """What a `Blob` says of the model: from ``nearest`` to ``small_molecules``."""
    to_centre = np.linalg.norm(atoms.coords - centre, axis=1)
    nearest = to_centre.argmin(keepdims=True)
    inside = atoms.take(_distance(atoms.coords, points, IN_BLOB) < IN_BLOB)
    small = inside.take(_is_small_molecule(inside))
    return (
        str(_residues(atoms.take(nearest))[0]),
        float(to_centre.min()),
        len(np.unique(_residues(inside))),
        tuple(np.unique(_residues(small)).tolist()),
    )


def _is_small_molecule(atoms: Atoms) -> NDArray[np.bool_]:
    """(n,): atoms other than hydrogen of ligands, glycans and ions."""
    return np.asarray(atoms.heavy & (atoms.polymer == "") & ~np.isin(atoms.residue_name, WATERS))


def _residues(atoms: Atoms) -> NDArray[np.str_]:
    """(n,) "A/HEM 201"."""
    names = atoms.chain
    for part in ("/", atoms.residue_name, " ", atoms.residue_number.astype(str)):
        names = np.strings.add(names, part)
    return np.asarray(np.strings.add(names, atoms.insertion_code))


def _fates(
    before: Volume, after: Volume, contour: float, limit: float, atoms: Atoms
) -> list[SmallMolecule]:
    """Every ligand, glycan and ion of the model, the most suppressed first."""
    small = atoms.take(_is_small_molecule(atoms))
    index = ((small.coords - before.origin) / before.voxel_size).T
    seen = map_coordinates(before.data, index, order=1) >= contour
    kept = seen & (map_coordinates(after.data, index, order=1) >= limit)
    names, first, number = np.unique(_residues(small), return_index=True, return_inverse=True)
    size, seen_size, kept_size = (
        np.bincount(number, column) for column in (np.ones(len(small)), seen, kept)
    )
    fates = [
        SmallMolecule(
            residue=str(name),
            kind=_kind(str(residue_name), int(n)),
            atoms=int(n),
            kept=float(k / n),
            suppressed=float((s - k) / n),
            not_seen=float(1 - s / n),
        )
        for name, residue_name, n, s, k in zip(
            names, small.residue_name[first], size, seen_size, kept_size, strict=True
        )
    ]
    return sorted(fates, key=lambda fate: fate.suppressed, reverse=True)


def _kind(residue_name: str, atoms: int) -> str:
    if residue_name in SUGARS:
        return "glycan"
    return "ion" if atoms == 1 else "ligand"
