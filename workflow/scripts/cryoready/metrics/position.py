"""Is the model in the map, and if not, where would it be?"""

import numpy as np
import scipy.fft

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import FloatArray, Grid, Vector, Volume
from cryoready.density.structure_factors import ComplexArray, model_density

MOST_OUTSIDE = 0.5  # share of the heavy atoms
LEAST_FIT = 0.4  # correlation at 6 Å below which a fit is doubtful
LEAST_GAIN = 0.03  # of correlation by moving the model, from which it is said
SEARCH_RESOLUTION = 6.0  # Å, at least


def check_position(
    atoms: Atoms, volume: Volume, factors: ComplexArray, *, resolution: float | None
) -> list[str]:
    """Warnings about where a model lies.

    Parameters
    ----------
    atoms
        heavy atoms of the model, in the frame of the map.
    volume
        the map.
    factors
        `structure_factors` of the model on the grid of the map.
    resolution
        Å, as reported.

    Raises
    ------
    CryoreadyError
        if most atoms lie outside of the box, or if the map is 0 wherever there are atoms.
    """
    grid, coords = volume.grid, atoms.coords
    voxel = np.rint((coords - grid.origin) / grid.voxel_size).astype(int)
    inside = ((voxel >= 0) & (voxel < grid.shape)).all(axis=1)
    outside = np.count_nonzero(~inside)
    shift, here, there = best_shift(atoms, volume, factors, resolution=resolution)
    advice = (
        f"moved by {_xyz(shift)} Å (x, y, z) its correlation would rise from {here:.2f} to "
        f"{there:.2f}"
    )
    if there < LEAST_FIT:
        advice += ", which is low: is it the model of this map, and not turned?"
    if outside > MOST_OUTSIDE * len(coords):
        raise CryoreadyError(
            f"the model is not in the map: {outside} of its {len(coords)} heavy atoms lie outside "
            f"of the box; {_spans(coords, grid)}; {advice}"
        )
    z, y, x = voxel[inside].T
    if not volume.data[z, y, x].any():
        raise CryoreadyError(
            f"the map is 0 at all {len(coords)} heavy atoms of the model: they lie where it was "
            f"masked away; {advice}"
        )
    warnings = []
    if outside:
        warnings.append(
            f"{outside} of {len(coords)} heavy atoms of the model lie outside of the map: there "
            "their Q is 0, and the FSC wraps them into the box"
        )
    if there > here + LEAST_GAIN:
        warnings.append(f"is the model well placed? {advice[0].upper()}{advice[1:]}")
    return warnings


def best_shift(
    atoms: Atoms, volume: Volume, factors: ComplexArray, *, resolution: float | None
) -> tuple[Vector, float, float]:
    """Translation of the model that fits best, and the correlation without and with it.

    All translations by whole voxels are compared at once, by one Fourier transform of the product.

    Returns
    -------
    shift
        (3,) zyx, Å, to be added to the model; of all that the periodic box cannot tell apart, the
        one that brings the centre of the model into the box.
    before, after
        Pearson correlation over the box, both maps low-passed at 6 Å (or the resolution, if worse).
    """
    grid = volume.grid
    limit = max(resolution or 0, SEARCH_RESOLUTION, 2.5 * float(grid.voxel_size.max()))
    model = model_density(factors, grid, resolution=limit)
    cross = _cross_correlation(volume.data, model)
    peak = np.unravel_index(cross.argmax(), grid.shape)
    shift = np.array(peak) * grid.voxel_size
    cell = grid.voxel_size * grid.shape
    centre = atoms.coords.mean(axis=0) + shift - grid.origin
    return shift - np.floor(centre / cell) * cell, float(cross[0, 0, 0]), float(cross[peak])


def _cross_correlation(density: FloatArray, model: FloatArray) -> FloatArray:
    """(nz, ny, nx) Pearson correlation of a map with a model moved by each number of voxels."""
    first, second = (scipy.fft.rfftn(x - x.mean()) for x in (density, model))
    present = np.abs(second) > 1e-4 * np.abs(second).max()  # the model's own low-pass, for both
    norm = np.linalg.norm(scipy.fft.irfftn(first * present, density.shape)) * np.linalg.norm(model)
    product = scipy.fft.irfftn(first * second.conj(), density.shape)
    return np.asarray(product / norm if norm > 0 else product * 0)


def _spans(coords: Vector, grid: Grid) -> str:
    """Where map and model are, in the order in which their files have it."""
    low, high = grid.origin, grid.origin + grid.voxel_size * (np.array(grid.shape) - 1)
    return (
        f"the map spans {_xyz(low)} to {_xyz(high)}, the model {_xyz(coords.min(axis=0))} to "
        f"{_xyz(coords.max(axis=0))} (x, y, z in Å)"
    )


def _xyz(vector: Vector) -> str:
    return "(" + ", ".join(f"{value:.1f}" for value in vector[::-1]) + ")"
