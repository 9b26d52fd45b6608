"""How well two maps agree around every voxel and at every residue."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.residues import group_mean, residue_groups
from cryoready.core.volume import FloatArray, Grid, Vector, Volume

LEAST_VARIANCE = 1e-10  # of that of the whole map: less is rounding
HALF_MAXIMUM = np.sqrt(2 * np.log(2))  # where a Gaussian falls to half, in units of its σ


def local_correlation(a: Volume, b: Volume, *, radius: float) -> FloatArray:
    """Pearson correlation of two maps in a Gaussian window around each voxel.

    Parameters
    ----------
    a, b
        maps on one grid.
    radius
        Å, where the weight of the window falls to half; at the faces of the box it is folded back.

    Returns
    -------
    (nz, ny, nx), -1 to 1; 0 where one of the maps is constant in the window.

    Raises
    ------
    CryoreadyError
        if the grids differ or the radius is less than a voxel.
    """
    _check(a.grid, b.grid, radius)
    sigma = radius / HALF_MAXIMUM / a.voxel_size
    u, v = (_standardised(volume.data) for volume in (a, b))
    mean_u, mean_v = _window_mean(u, sigma), _window_mean(v, sigma)
    variance_u = _window_mean(u * u, sigma) - mean_u**2
    variance_v = _window_mean(v * v, sigma) - mean_v**2
    covariance = _window_mean(u * v, sigma) - mean_u * mean_v
    varies = np.minimum(variance_u, variance_v) > LEAST_VARIANCE
    norm = np.sqrt(variance_u * variance_v, out=np.ones_like(u), where=varies)
    return np.clip(np.where(varies, covariance / norm, 0), -1, 1).astype(np.float32)


def residue_values(values: FloatArray, grid: Grid, atoms: Atoms) -> NDArray[np.float64]:
    """Mean of a field at the atoms of each residue, trilinearly interpolated.

    Parameters
    ----------
    values
        (nz, ny, nx), for instance local correlation or local resolution.
    grid
        where they lie.
    atoms
        n atoms of m residues, as numbered by `residue_groups`.

    Returns
    -------
    (m,), NaN for a residue with an atom outside the grid.
    """
    position = (atoms.coords - grid.origin) / grid.voxel_size
    at_atoms = map_coordinates(
        values, position.T, output=np.float64, order=1, mode="constant", cval=np.nan
    )
    group, _ = residue_groups(atoms)
    return group_mean(at_atoms, group)


def _check(grid: Grid, other: Grid, radius: float) -> None:
    if not grid.same_as(other):
        raise CryoreadyError(
            f"local correlation needs one grid: {grid} against {other}; resample one map onto the "
            "other"
        )
    if not radius >= grid.voxel_size.min():
        raise CryoreadyError(
            f"the radius of local correlation is {radius:g} Å, it must be at least one voxel, "
            f"{grid.voxel_size.min():g} Å"
        )


def _window_mean(values: Vector, sigma: Vector) -> Vector:
    """Mean of ``values`` (nz, ny, nx) in the window of ``sigma`` (3,) voxels."""
    return np.asarray(gaussian_filter(values, sigma, mode="reflect", truncate=3.0))


def _standardised(data: FloatArray) -> Vector:
    """Mean 0, variance 1 (or all 0): keeps the difference of sums in `local_correlation` exact."""
    centred = data - data.mean(dtype=np.float64)
    return np.asarray(centred / (centred.std() or 1))
