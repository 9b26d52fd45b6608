"""A training pair: the 1 Å map and the simulated target on the same grid."""

import zlib
from dataclasses import dataclass

import numpy as np

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Grid, Volume
from cryoready.density.degrade import (
    degrade,
    draw_degradation,
    empty_region,
    fill_solvent,
    local_b_factors,
)
from cryoready.density.masks import BoolArray, mask_from_atoms, soften
from cryoready.density.normalise import intensity_scale, normalise
from cryoready.density.resample import resample, spaced_grid
from cryoready.density.simulate import simulate_density, target_sigma
from cryoready.files.models import atomic_numbers

MODEL_ZONE = 4.0  # Å around atoms: where a box counts as occupied
ATOM_SIGMA = 0.45  # Å: width of an atom at rest in a simulated map
SIMULATED_MARGIN = 12.0  # Å of solvent around a simulated structure

MASKED_SHARE = 0.5  # of the simulated maps are masked around the particle, as depositors do


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


def _target(atoms: Atoms, grid: Grid, resolution: float) -> Volume:
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
    return Pair(_scaled(experimental), _scaled(_target(atoms, grid, resolution)), zone, resolution)


def prepare_simulated_pair(
    atoms: Atoms,
    *,
    resolution: float | None,
    seed: int,
    spacing: float = 1.0,
    minimum_voxels: int = 1,
) -> Pair:
    """A pair whose map is simulated from ``atoms`` and degraded (`density.degrade`).

    ``resolution`` (Å) is drawn between 3 and 6 when it is not given.
    """
    rng = np.random.default_rng(seed)
    if resolution is None:
        resolution = float(rng.uniform(3.0, 6.0))
    low = atoms.coords.min(axis=0) - SIMULATED_MARGIN - rng.uniform(0, spacing, 3)
    voxels = np.ceil((atoms.coords.max(axis=0) + SIMULATED_MARGIN - low) / spacing).astype(int)
    nz, ny, nx = (int(n) for n in np.maximum(voxels, minimum_voxels))
    grid = Grid((nz, ny, nx), np.full(3, spacing), low)
    b_factor = local_b_factors(atoms.coords, rng, largest=rng.uniform(0, 100))
    sigma = np.sqrt(ATOM_SIGMA**2 + b_factor / (8 * np.pi**2))  # B = 8π² <u²>
    weight = atomic_numbers(atoms.element) * atoms.occupancy
    clean = simulate_density(atoms.coords, weight, sigma, grid)
    zone = mask_from_atoms(atoms.coords, grid, MODEL_ZONE)
    how = draw_degradation(rng, resolution)
    degraded = degrade(clean, how, rng, occupied=float(zone.mean()))
    if rng.random() < MASKED_SHARE:
        kept = mask_from_atoms(atoms.coords, grid, rng.uniform(4.0, 10.0))
        soft = soften(kept, grid.voxel_size, edge=rng.uniform(1.0, 6.0))
        degraded = Volume.on(grid, degraded.data * soft)
    return Pair(_scaled(degraded), _scaled(_target(atoms, grid, resolution)), zone, resolution)
