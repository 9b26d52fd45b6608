"""Deposited coordinates or biological assembly: which of them is in the map?"""

from typing import Literal

import numpy as np

from cryoready.core.atoms import Atoms
from cryoready.core.volume import Volume
from cryoready.density.resample import resample, spaced_grid
from cryoready.density.simulate import CUTOFF_SIGMAS, simulate_density
from cryoready.files.models import atomic_numbers
from cryoready.metrics.correlation import pearson

Coordinates = Literal["deposited", "biological"]

SPACING = 3.0  # Å, of the grid on which both are compared
SIGMA = 2 / 3 * SPACING  # Å, of an atom: leaves 0.1 of its amplitude at the limit of that grid
LEAST_GAIN = 0.01  # of correlation, below which nothing is gained by copies


def fitting_atoms(
    volume: Volume, deposited: Atoms, assembly: Atoms | None
) -> tuple[Atoms, Coordinates, dict[Coordinates, float]]:
    """The coordinates that fit a map better, over its whole box.

    Copies that lie outside of the box change nothing, so that the deposited coordinates, which are
    preferred where both fit alike, are kept.

    Parameters
    ----------
    volume
        the map.
    deposited, assembly
        `files.models.read_model` and `read_assembly` of one file.

    Returns
    -------
    atoms
        one of the two.
    coordinates
        which.
    correlation
        Pearson, of each with the map at 3 Å a voxel; empty where there is no choice.
    """
    if assembly is None:
        return deposited, "deposited", {}
    coarse = resample(volume, spaced_grid(volume.grid, SPACING))
    correlation: dict[Coordinates, float] = {
        "deposited": _correlation(coarse, deposited),
        "biological": _correlation(coarse, assembly),
    }
    if correlation["biological"] > correlation["deposited"] + LEAST_GAIN:
        return assembly, "biological", correlation
    return deposited, "deposited", correlation


def _correlation(volume: Volume, atoms: Atoms) -> float:
    """With the density of ``atoms``; 0 where none of it lies in the box."""
    reach = CUTOFF_SIGMAS * SIGMA
    last = volume.origin + volume.voxel_size * (np.array(volume.data.shape) - 1)
    near = ((atoms.coords > volume.origin - reach) & (atoms.coords < last + reach)).all(axis=1)
    there = atoms.take(near)
    weight = atomic_numbers(there.element) * there.occupancy
    density = simulate_density(there.coords, weight, SIGMA, volume.grid)
    return pearson(volume.data.ravel(), density.data.ravel()) or 0.0
