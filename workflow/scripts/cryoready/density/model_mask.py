"""The mask of Phenix around a model: van der Waals spheres, closed, and smooth on request."""

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from cryoready.core.atoms import Atoms
from cryoready.core.boxes import offsets_within
from cryoready.core.fourier import frequency_radius
from cryoready.core.volume import FloatArray, Grid, Vector
from cryoready.files.models import vdw_radii

SOLVENT_RADIUS = 1.1  # Å
SHRINK_RADIUS = 0.9  # Å
# Å, where Phenix has others than gemmi
VDW_RADII = {"C": 1.775, "N": 1.5, "O": 1.45, "P": 1.9, "CA": 1.95}
CHUNK_ROWS = 4_000_000


def model_mask(atoms: Atoms, grid: Grid, *, extra: float = 0.0) -> NDArray[np.bool_]:
    """Voxels of a model in a periodic box (Jiang & Brünger 1994, doi 10.1006/jmbi.1994.1633).

    A voxel is inside if it lies within the van der Waals radius + ``extra`` of an atom, or within
    1.1 Å more where no solvent voxel is nearer than 0.9 Å.

    Parameters
    ----------
    atoms
        all of them count, hydrogens too, whatever their occupancy.
    grid
        the box, one period.
    extra
        Å, added to every radius.

    Returns
    -------
    (nz, ny, nx).
    """
    radii = vdw_radii(atoms.element) + extra
    for element, radius in VDW_RADII.items():
        radii[atoms.element == element] = radius + extra
    outer = spheres(atoms.coords, radii + SOLVENT_RADIUS, grid)
    ball = _ball(grid.voxel_size)
    if ball.size == 1:  # no neighbour is that near: nothing is taken away
        return outer
    near_solvent = maximum_filter(~outer, footprint=ball, mode="wrap")
    return np.asarray(spheres(atoms.coords, radii, grid) | (outer & ~near_solvent))


def smooth_mask(atoms: Atoms, grid: Grid, *, radius: float) -> FloatArray:
    """`model_mask` with radii larger by ``radius`` Å, smoothed by a Gaussian of σ = ``radius``.

    (nz, ny, nx), 0-1: the Fourier coefficients are multiplied by exp(-2π² radius² s²) and negative
    values set to 0.
    """
    mask = model_mask(atoms, grid, extra=radius).astype(np.float32)
    frequency = frequency_radius(grid.shape, grid.voxel_size)
    factors = scipy.fft.rfftn(mask) * np.exp(-2 * (np.pi * radius * frequency) ** 2)
    smooth = scipy.fft.irfftn(factors, grid.shape)
    return np.maximum(smooth, 0, dtype=np.float32)


def spheres(coords: Vector, radii: Vector, grid: Grid) -> NDArray[np.bool_]:
    """Voxels (nz, ny, nx) within ``radii`` (n,) Å of ``coords`` (n, 3) zyx, in a periodic box.

    Each sphere is a set of rows along x, and each row one step up and one step down: the work grows
    with the square, not the cube, of a radius.
    """
    nz, ny, nx = grid.shape
    steps = np.zeros(nz * ny * (2 * nx + 1), dtype=np.int32)
    place = (coords - grid.origin) / grid.voxel_size
    reach = np.ceil(radii.max() / grid.voxel_size[:2]).astype(np.int64)
    size = max(1, CHUNK_ROWS // int(np.prod(2 * reach + 1)))
    for first in range(0, len(coords), size):
        part = slice(first, first + size)
        _add_rows(steps, place[part], radii[part], reach, grid)
    covered = np.cumsum(steps.reshape(nz, ny, 2 * nx + 1), axis=2) > 0
    return np.asarray(covered[:, :, :nx] | covered[:, :, nx : 2 * nx])


def _add_rows(
    steps: NDArray[np.int32], place: Vector, radii: Vector, reach: NDArray[np.int64], grid: Grid
) -> None:
    """Add +1 where a row of a sphere starts and -1 behind its end; rows run over two periods."""
    _, ny, nx = grid.shape
    squared = radii.astype(np.float32)[:, None, None] ** 2
    rows = []
    for k in range(2):
        row = np.rint(place[:, k, None]).astype(np.int64) + np.arange(-reach[k], reach[k] + 1)
        offset = ((row - place[:, k, None]) * grid.voxel_size[k]).astype(np.float32)
        squared = squared - np.expand_dims(offset**2, 2 - k)
        rows.append(row % grid.shape[k])
    atom, j, i = np.nonzero(squared >= 0)
    half = np.sqrt(squared[atom, j, i]) / grid.voxel_size[2]
    start = np.ceil(place[atom, 2] - half).astype(np.int64)
    length = np.minimum(np.floor(place[atom, 2] + half).astype(np.int64) - start + 1, nx)
    base = (rows[0][atom, j] * ny + rows[1][atom, i]) * (2 * nx + 1) + start % nx
    steps += np.bincount(base, minlength=len(steps))
    steps -= np.bincount(base + length, minlength=len(steps))


def _ball(voxel_size: Vector) -> NDArray[np.bool_]:
    """Neighbouring voxels nearer than `SHRINK_RADIUS`."""
    reach = np.floor(SHRINK_RADIUS / voxel_size).astype(int)
    near = ((offsets_within(reach) * voxel_size) ** 2).sum(axis=1) < SHRINK_RADIUS**2
    return np.asarray(near.reshape(2 * reach + 1))
