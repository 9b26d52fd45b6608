"""A training pair: the 1 Å map and the simulated target on the same grid."""

import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.residues import residue_groups
from cryoready.core.volume import Grid, Vector, Volume
from cryoready.density.atom_resolution import resolution_from_qscore
from cryoready.density.masks import BoolArray, mask_from_atoms, soften
from cryoready.density.normalise import intensity_scale, normalise
from cryoready.density.resample import resample, spaced_grid
from cryoready.density.simulate import simulate_density, target_sigma
from cryoready.density.solvent import empty_region, fill_solvent
from cryoready.density.synthesis import RESOLUTIONS, draw_recipe, synthesise
from cryoready.files.models import atomic_numbers
from cryoready.metrics.qscore import SIGMA, expected_q, place_probes, qscore

MODEL_ZONE = 4.0  # Å around atoms: where a box counts as occupied
SIMULATED_MARGIN = 12.0  # Å of solvent around a simulated structure


@dataclass(frozen=True)
class Pair:
    """Map and target in network intensities 0-1, and the zone of the model, on one grid."""

    map: Volume
    target: Volume
    zone: BoolArray
    resolution: float

    @property
    def correlation(self) -> float:
        """Pearson correlation of map and target in the zone of the model."""
        return float(np.corrcoef(self.map.data[self.zone], self.target.data[self.zone])[0, 1])


def entry_seed(entry_id: str, seed: int) -> int:
    """The seed of an entry's random draws: the same in every run, another for every entry."""
    return zlib.crc32(entry_id.encode()) ^ seed


def _scaled(volume: Volume) -> Volume:
    return Volume.on(volume.grid, normalise(volume.data, intensity_scale(volume.data)))


def _target(atoms: Atoms, grid: Grid, resolution: ArrayLike) -> Volume:
    weight = atomic_numbers(atoms.element) * atoms.occupancy
    return simulate_density(atoms.coords, weight, target_sigma(resolution), grid)


def prepare_pair(
    volume: Volume,
    atoms: Atoms,
    *,
    resolution: float | None,
    seed: int,
    spacing: float = 1.0,
    minimum_voxels: int = 1,
    mask_radius: float | None = None,
    local_target: bool = False,
) -> Pair:
    """A pair from an experimental map and the model fitted into it.

    Parameters
    ----------
    volume
        the map on its own grid.
    atoms
        the model, in the frame of the map.
    resolution
        Å, reported for the map.
    seed
        of the solvent that replaces what the depositor masked away.
    spacing
        Å, of the network's grid.
    minimum_voxels
        smaller maps are extended to this many voxels an axis.
    mask_radius
        Å; keep only the density this near to the model (for boxes with unmodelled neighbours).
    local_target
        make the target of each residue as sharp as the map is there (`residue_resolution`).

    Raises
    ------
    CryoreadyError
        if the resolution is unknown or the model lies outside the map.
    """
    if resolution is None:
        raise CryoreadyError("the resolution is unknown: give it in the column resolution, in Å")
    rng = np.random.default_rng(seed)
    grid = spaced_grid(volume.grid, spacing, minimum_voxels=minimum_voxels)
    empty = (
        resample(Volume.on(volume.grid, (~empty_region(volume.data)).astype(np.float32)), grid).data
        < 0.5
    )
    experimental = resample(volume, grid)
    if mask_radius is not None:
        keep = mask_from_atoms(atoms.coords, grid, mask_radius)
        experimental = Volume.on(grid, experimental.data * soften(keep, grid.voxel_size, 2.0))
        empty |= ~keep
    if empty.any():
        sigma = rng.uniform(0.02, 0.10) * intensity_scale(experimental.data)
        experimental = fill_solvent(
            experimental, empty, sigma=sigma, resolution=resolution, rng=rng
        )
    zone = mask_from_atoms(atoms.coords, grid, MODEL_ZONE)
    sharpness = residue_resolution(volume, atoms) if local_target else resolution
    return Pair(_scaled(experimental), _scaled(_target(atoms, grid, sharpness)), zone, resolution)


def residue_resolution(volume: Volume, atoms: Atoms) -> Vector:
    """Å at each atom, (n,): of maps that have the mean Q-score of its residue in ``volume``.

    The idea is of EMReady's later versions; hydrogens have the value of their residue.
    """
    heavy = np.flatnonzero(atoms.heavy)
    q = qscore(volume, place_probes(atoms.coords[heavy]), sigma=SIGMA)
    residue, first = residue_groups(atoms)
    total = np.bincount(residue[heavy], q, minlength=len(first))
    count = np.bincount(residue[heavy], minlength=len(first))
    return resolution_from_qscore((total / np.maximum(count, 1))[residue], expected_q)


def prepare_simulated_pair(
    atoms: Atoms,
    *,
    resolution: float | None,
    seed: int,
    spacing: float = 1.0,
    minimum_voxels: int = 1,
) -> Pair:
    """A pair whose map is simulated from ``atoms`` and degraded (`density.synthesis`).

    ``resolution`` (Å) is drawn from `RESOLUTIONS` when it is not given.
    """
    rng = np.random.default_rng(seed)
    if resolution is None:
        resolution = float(rng.uniform(*RESOLUTIONS))
    low = atoms.coords.min(axis=0) - SIMULATED_MARGIN - rng.uniform(0, spacing, 3)
    voxels = np.ceil((atoms.coords.max(axis=0) + SIMULATED_MARGIN - low) / spacing).astype(int)
    nz, ny, nx = (int(n) for n in np.maximum(voxels, minimum_voxels))
    grid = Grid((nz, ny, nx), np.full(3, spacing), low)
    weight = atomic_numbers(atoms.element) * atoms.occupancy
    coords = (atoms.coords - low).astype(np.float32)
    measured, target = synthesise(
        coords,
        weight.astype(np.float32),
        replace(draw_recipe(rng, resolution), map_share=1.0),
        rng,
        shape=grid.shape,
        spacing=spacing,
    )
    zone = mask_from_atoms(atoms.coords, grid, MODEL_ZONE)
    return Pair(Volume.on(grid, measured), Volume.on(grid, target), zone, resolution)
