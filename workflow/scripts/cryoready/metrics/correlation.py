"""Real-space correlation of a map with its model, as phenix.map_model_cc computes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoready.core.boxes import offsets_within
from cryoready.core.volume import FloatArray, Grid, Vector

CHUNK_VOXELS = 10_000_000


@dataclass(frozen=True)
class MapModelCorrelation:
    """CC_mask, CC_volume, CC_peaks, CC_box; None where a region has no variance."""

    mask: float | None
    volume: float | None
    peaks: float | None
    box: float | None


def map_model_correlation(
    density: FloatArray, model: FloatArray, inside: NDArray[np.bool_]
) -> MapModelCorrelation:
    """Pearson correlation over four regions (Afonine et al. 2018, doi 10.1107/S2059798318009324).

    Parameters
    ----------
    density
        (nz, ny, nx) of the map.
    model
        the same box from the model, truncated at the resolution (`model_density`).
    inside
        the n voxels of the model (`model_mask`): the region of CC_mask, while CC_volume has the n
        highest voxels of ``model`` and CC_peaks those and the n highest of ``density``.
    """
    n = int(np.count_nonzero(inside))
    volume = _highest(model, n)
    peaks = volume | _highest(density, n)
    return MapModelCorrelation(
        mask=pearson(density[inside], model[inside]),
        volume=pearson(density[volume], model[volume]),
        peaks=pearson(density[peaks], model[peaks]),
        box=pearson(density.ravel(), model.ravel()),
    )


def pearson(first: FloatArray, second: FloatArray) -> float | None:
    """Correlation about the means of two equally long lists; None where one is constant."""
    if first.size < 2:
        return None
    x, y = first - first.mean(dtype=np.float64), second - second.mean(dtype=np.float64)
    power = float(np.dot(x, x) * np.dot(y, y))
    return float(np.dot(x, y)) / power**0.5 if power > 0 else None


def group_correlation(
    densities: Sequence[FloatArray],
    model: FloatArray,
    grid: Grid,
    coords: Vector,
    group: NDArray[np.int64],
    *,
    radius: float,
) -> Vector:
    """Correlation of maps with the model around the atoms of each residue, or of each chain.

    Parameters
    ----------
    densities, model
        (nz, ny, nx) each, as for `map_model_correlation`.
    grid
        theirs.
    coords, group
        (n, 3) zyx Å, and (n,) which group each atom belongs to, 0…m-1.
    radius
        Å: voxels within it of an atom count, those that lie inside the box.

    Returns
    -------
    (maps, m); NaN for a group without variance.
    """
    result = np.full((len(densities), int(group.max()) + 1), np.nan)
    order = np.argsort(group, kind="stable")
    for atoms in _chunks(group[order], max(1, CHUNK_VOXELS // len(_ball(grid, radius)))):
        part = order[atoms]
        number, voxel = _voxels_around(coords[part], group[part], grid, radius)
        labels, label = np.unique(number, return_inverse=True)
        theory = model.ravel()[voxel]
        for row, density in zip(result, densities, strict=True):
            row[labels] = _grouped_pearson(density.ravel()[voxel], theory, label)
    return result


def _chunks(sorted_group: NDArray[np.int64], size: int) -> Iterator[slice]:
    """Slices of about ``size`` atoms that cut no group."""
    first = 0
    while first < len(sorted_group):
        last = sorted_group[min(first + size, len(sorted_group)) - 1]
        end = int(np.searchsorted(sorted_group, last, side="right"))
        yield slice(first, end)
        first = end


def _voxels_around(
    coords: Vector, group: NDArray[np.int64], grid: Grid, radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group and flat index of every voxel within ``radius`` of an atom, each pair once."""
    place = (coords - grid.origin) / grid.voxel_size
    nearest = np.rint(place).astype(np.int64)
    ball = _ball(grid, radius)
    squared = np.zeros((len(coords), len(ball)), dtype=np.float32)
    for k in range(3):
        steps = np.arange(ball[:, k].min(), ball[:, k].max() + 1)
        voxel = nearest[:, k, None] + steps
        offset = (voxel - place[:, k, None]) * grid.voxel_size[k]
        offset[(voxel < 0) | (voxel >= grid.shape[k])] = np.inf
        squared += (offset.astype(np.float32) ** 2)[:, ball[:, k] - steps[0]]
    atom, step = np.nonzero(squared <= radius**2)
    strides = np.array([grid.shape[1] * grid.shape[2], grid.shape[2], 1])
    flat = (nearest @ strides)[atom] + (ball @ strides)[step]
    pair = np.unique(group[atom] * int(np.prod(grid.shape)) + flat)
    return np.divmod(pair, int(np.prod(grid.shape)))


def _ball(grid: Grid, radius: float) -> NDArray[np.int64]:
    """(m, 3) steps to all voxels that can lie within ``radius`` of a point nearest to voxel 0."""
    reach = np.ceil(radius / grid.voxel_size + 0.5).astype(np.int64)
    steps = offsets_within(reach)
    least = np.maximum(np.abs(steps) - 0.5, 0) * grid.voxel_size
    return np.asarray(steps[(least**2).sum(axis=1) <= radius**2])


def _grouped_pearson(x: FloatArray, y: FloatArray, group: NDArray[np.int64]) -> Vector:
    """(m,) correlation of two lists within each group; NaN where one is constant."""
    count = np.bincount(group)
    dx, dy = (v - (np.bincount(group, v) / count)[group] for v in (x, y))
    power = np.bincount(group, dx**2) * np.bincount(group, dy**2)
    cross = np.bincount(group, dx * dy)
    return np.divide(cross, np.sqrt(power), out=np.full(len(count), np.nan), where=power > 0)


def _highest(density: FloatArray, n: int) -> NDArray[np.bool_]:
    """Voxels at or above the value of rank n (0 is the highest)."""
    rank = density.size - 1 - min(n, density.size - 1)
    return np.asarray(density >= np.partition(density.ravel(), rank)[rank])
