"""Overlapping cubic boxes of a volume: cut for training, cut and blended for inference."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int, int]
Value = TypeVar("Value", bound=np.generic)


def axis_starts(length: int, edge: int, stride: int) -> list[int]:
    """First voxels of boxes that cover ``length`` voxels; the last box ends at the border.

    An axis shorter than the box yields one box at 0: pad the volume first (`pad_to_edge`).
    """
    if edge < 1 or not 1 <= stride <= edge:
        raise ValueError(f"need edge >= stride >= 1 voxels, got edge {edge}, stride {stride}")
    last = max(length - edge, 0)
    return [*range(0, last, stride), last]


def box_starts(shape: tuple[int, int, int], edge: int, stride: int) -> list[Corner]:
    """Corners (z, y, x) of cubic boxes that cover ``shape``, in C order, all in voxels."""
    z, y, x = (axis_starts(length, edge, stride) for length in shape)
    return [(i, j, k) for i in z for j in y for k in x]


def pad_to_edge(data: NDArray[np.float32], edge: int) -> NDArray[np.float32]:
    """Zeros after the last voxel of every axis shorter than ``edge`` voxels."""
    return np.pad(data, [(0, max(edge - length, 0)) for length in data.shape])


def extract_box(data: NDArray[Value], corner: Corner, edge: int) -> NDArray[Value]:
    """A view of the box of ``edge``³ voxels at ``corner``; the box must lie inside."""
    z, y, x = corner
    return data[z : z + edge, y : y + edge, x : x + edge]


def extract_boxes(
    data: NDArray[np.float32], corners: list[Corner], edge: int
) -> NDArray[np.float32]:
    """The boxes at ``corners``, (n, edge, edge, edge), copied."""
    return np.stack([extract_box(data, corner, edge) for corner in corners])


def blend_boxes(
    boxes: Iterable[tuple[Corner, NDArray[np.float32]]],
    shape: tuple[int, int, int],
    weight: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Weighted average of overlapping boxes.

    Parameters
    ----------
    boxes
        pairs of corner and (edge, edge, edge) density; consumed one by one.
    shape
        (nz, ny, nx) of the result.
    weight
        (edge, edge, edge) positive weight of each voxel of a box.

    Returns
    -------
    (nz, ny, nx) Σ w·box / Σ w; zero where no box lies.
    """
    total = np.zeros(shape, dtype=np.float32)
    weights = np.zeros(shape, dtype=np.float32)
    edge = weight.shape[0]
    for corner, box in boxes:
        extract_box(total, corner, edge)[...] += weight * box
        extract_box(weights, corner, edge)[...] += weight
    return np.divide(total, weights, out=total, where=weights > 0)


def offsets_within(reach: NDArray[np.int64]) -> NDArray[np.int64]:
    """All offsets from -``reach`` to +``reach`` (k,) in voxels, (m, k), in C order."""
    indices = np.indices(tuple((2 * reach + 1).tolist()), dtype=np.int64)
    return np.asarray(indices.reshape(len(reach), -1).T - reach)
