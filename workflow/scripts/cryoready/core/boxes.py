"""Overlapping boxes of a volume: cut for training, cut and blended for inference."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int, int]
Shape = tuple[int, int, int]
Value = TypeVar("Value", bound=np.generic)


def axis_starts(length: int, edge: int, stride: int) -> list[int]:
    """First voxels of boxes that cover ``length`` voxels; the last box ends at the border.

    An axis shorter than the box yields one box at 0, which hangs over the end.
    """
    if edge < 1 or not 1 <= stride <= edge:
        raise ValueError(f"need edge >= stride >= 1 voxels, got edge {edge}, stride {stride}")
    last = max(length - edge, 0)
    return [*range(0, last, stride), last]


def box_starts(shape: Shape, edges: Shape | int, strides: Shape | int) -> list[Corner]:
    """Corners (z, y, x) of boxes that cover ``shape``, in C order, all in voxels.

    One number for ``edges`` or ``strides`` (z, y, x) stands for all three.
    """
    axes = zip(shape, triple(edges), triple(strides), strict=True)
    z, y, x = (axis_starts(*axis) for axis in axes)
    return [(i, j, k) for i in z for j in y for k in x]


def triple(edges: Shape | int) -> Shape:
    """``edges`` (z, y, x); one number stands for all three."""
    return (edges, edges, edges) if isinstance(edges, int) else edges


def extract_box(data: NDArray[Value], corner: Corner, edges: Shape | int) -> NDArray[Value]:
    """A view of the box of ``edges`` voxels at ``corner``, as far as it lies in ``data``."""
    return data[tuple(slice(i, i + n) for i, n in zip(corner, triple(edges), strict=True))]


def cut_box(data: NDArray[Value], corner: Corner, edges: Shape | int) -> NDArray[Value]:
    """A copy of the box of ``edges`` voxels at ``corner``; zeros where it hangs over the end."""
    box = np.zeros(triple(edges), dtype=data.dtype)
    inside = extract_box(data, corner, edges)
    extract_box(box, (0, 0, 0), inside.shape)[...] = inside
    return box


def blend_boxes(
    boxes: Iterable[tuple[Corner, NDArray[np.float32]]],
    weight: NDArray[np.float32],
    total: NDArray[np.float32],
) -> None:
    """Weighted average of overlapping boxes, made in place.

    Parameters
    ----------
    boxes
        pairs of corner and density of the shape of ``weight``; consumed one by one. What hangs
        over the end of ``total`` is dropped.
    weight
        (ez, ey, ex) positive weight of each voxel of a box.
    total
        (nz, ny, nx) zeros; becomes Σ w·box / Σ w, still zero where no box lies.
    """
    weights = np.zeros(total.shape, dtype=np.float32)
    for corner, box in boxes:
        here = extract_box(total, corner, weight.shape)
        inside = tuple(slice(n) for n in here.shape)
        here += weight[inside] * box[inside]
        extract_box(weights, corner, weight.shape)[...] += weight[inside]
    np.maximum(weights, np.finfo(np.float32).tiny, out=weights)
    np.divide(total, weights, out=total)


def offsets_within(reach: NDArray[np.int64]) -> NDArray[np.int64]:
    """All offsets from -``reach`` to +``reach`` (k,) in voxels, (m, k), in C order."""
    indices = np.indices(tuple((2 * reach + 1).tolist()), dtype=np.int64)
    return np.asarray(indices.reshape(len(reach), -1).T - reach)
