"""Masks from a contour or from a model, hard or with a soft edge."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import FloatArray, Grid, Vector, Volume

BoolArray = NDArray[np.bool_]


def mask_from_contour(volume: Volume, contour: float) -> BoolArray:
    """(nz, ny, nx): voxels at or above ``contour`` (units of the map).

    Raises
    ------
    CryoreadyError
        if the contour selects nothing or everything.
    """
    inside = volume.data >= contour
    if not inside.any() or inside.all():
        low, high = volume.data.min(), volume.data.max()
        raise CryoreadyError(
            f"mask contour {contour:g} selects {'all' if inside.any() else 'no'} voxels: "
            f"the mask map runs from {low:g} to {high:g}; choose a level between them"
        )
    return inside


def mask_from_atoms(coords: Vector, grid: Grid, radius: float) -> BoolArray:
    """(nz, ny, nx): voxels whose centre lies within ``radius`` Å of an atom ((n, 3) zyx, Å).

    Raises
    ------
    CryoreadyError
        if no voxel lies near an atom: the model is elsewhere.
    """
    z, y, x = np.meshgrid(*(grid.axis(k) for k in range(3)), indexing="ij", sparse=True)
    inside = np.zeros(grid.shape, dtype=bool)
    tree = cKDTree(coords)
    plane = np.broadcast_arrays(y[0], x[0])
    for k, height in enumerate(z[:, 0, 0]):
        near = np.abs(coords[:, 0] - height) <= radius
        if not near.any():
            continue
        points = np.stack([np.full(plane[0].size, height), *(p.ravel() for p in plane)], axis=1)
        distance, _ = tree.query(points, distance_upper_bound=radius + 1e-9)
        inside[k] = np.isfinite(distance).reshape(grid.shape[1:])
    if not inside.any():
        low, high = coords.min(axis=0).round(1), coords.max(axis=0).round(1)
        last = [round(float(grid.axis(k)[-1]), 1) for k in range(3)]
        raise CryoreadyError(
            f"no voxel lies within {radius:g} Å of the model: the map spans "
            f"{grid.origin.round(1).tolist()} to {last}, the model {low.tolist()} to "
            f"{high.tolist()} (zyx, Å); fit the model into the map"
        )
    return inside


def soften(mask: BoolArray, voxel_size: Vector, edge: float) -> FloatArray:
    """1 inside, a half cosine down to 0 over ``edge`` Å outside; ``edge`` 0 leaves it hard."""
    if edge == 0:
        return mask.astype(np.float32)
    # squared distance, axis by axis: only what is nearer than the edge counts
    squared = np.where(mask, np.float32(0), np.float32(np.inf))
    for axis, spacing in enumerate(voxel_size):
        near, before = (np.moveaxis(d, axis, 0) for d in (squared, squared.copy()))
        for k in range(1, int(edge / spacing) + 1):
            step = np.float32((k * spacing) ** 2)
            np.minimum(near[k:], before[:-k] + step, out=near[k:])
            np.minimum(near[:-k], before[k:] + step, out=near[:-k])
    distance = np.minimum(np.sqrt(squared, out=squared), np.float32(edge), out=squared)
    return np.asarray(0.5 + 0.5 * np.cos(np.float32(np.pi / edge) * distance), dtype=np.float32)
