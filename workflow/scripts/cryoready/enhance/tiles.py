"""Which tiles of a map the network sees, and how their results are weighted."""

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cryoready.core.boxes import Corner, Shape, axis_starts, extract_box
from cryoready.core.volume import FloatArray
from cryoready.density.signal import BLOCK as FINEST_VOXELS
from cryoready.density.signal import signal_cells
from cryoready.network.scunet import Architecture

CROP_VOXELS = 48  # edge of the boxes that the published network was trained on
LONGEST_EDGE = 192  # voxels: beyond it little is left to save on overlaps

Blending = Literal["uniform", "smooth"]
Cells = NDArray[np.bool_]


@dataclass(frozen=True)
class Tiling:
    """Overlapping tiles and their blending.

    Parameters
    ----------
    shape
        (z, y, x) voxels of a tile.
    stride
        (z, y, x) voxels from tile to tile.
    blending
        "uniform", or "smooth": 1 in the middle and a raised cosine over the overlap, so that
        voxels count less near the faces of a tile, where the network sees less around them.
    hanging
        True: all corners are multiples of the stride, and the last tile may hang over the end of
        the map; False: the last tile ends there.
    """

    shape: Shape
    stride: Shape
    blending: Blending
    hanging: bool = False

    @classmethod
    def cubic(cls, edge: int, stride: int, blending: Blending) -> "Tiling":
        """Tiles of ``edge``³ voxels that end with the map."""
        return cls((edge, edge, edge), (stride, stride, stride), blending)

    @property
    def voxels(self) -> int:
        """Of one tile."""
        return prod(self.shape)

    def starts(self, shape: Shape) -> list[list[int]]:
        """First voxels of the tiles along z, y and x of a map of ``shape`` voxels."""
        axes = zip(shape, self.shape, self.stride, strict=True)
        if self.hanging:
            return [[*range(0, max(n - edge + step, 1), step)] for n, edge, step in axes]
        return [axis_starts(*axis) for axis in axes]

    def corners(self, shape: Shape) -> list[Corner]:
        """Corners (z, y, x) of the tiles of a map of ``shape`` voxels, in C order."""
        z, y, x = self.starts(shape)
        return [*product(z, y, x)]

    def weight(self) -> FloatArray:
        """(z, y, x) positive weight of every voxel of a tile."""
        if self.blending == "uniform":
            return np.ones(self.shape, dtype=np.float32)
        profiles = [_profile(*axis) for axis in zip(self.shape, self.stride, strict=True)]
        return np.einsum("i,j,k->ijk", *profiles).astype(np.float32)


PAPER = Tiling.cubic(CROP_VOXELS, 12, "uniform")
HALF_OVERLAP = Tiling.cubic(CROP_VOXELS, CROP_VOXELS // 2, "smooth")


@dataclass(frozen=True)
class Signal:
    """Where a map may hold density: all else stays 0 and costs nothing.

    Parameters
    ----------
    region
        the part of the map around all such density.
    cells
        (z, y, x) of the cells of that part, whether they may hold density.
    edge
        voxels of a cell; the last ones of an axis may be cut off.
    whole
        (nz, ny, nx) voxels of the map.
    """

    region: tuple[slice, slice, slice]
    cells: Cells
    edge: int
    whole: Shape

    @classmethod
    def of(
        cls, density: FloatArray, *, edge: int, skip_empty: bool, ceiling: float = np.inf
    ) -> "Signal":
        """Find it in ``density`` (nz, ny, nx); everywhere if nothing is to be skipped.

        The region begins at a multiple of ``edge``: the windows of the network lie where they would
        without skipping.
        """
        found = np.ones([-(-n // FINEST_VOXELS) for n in density.shape], dtype=np.bool_)
        if (
            skip_empty
            and (some := signal_cells(density, cell_voxels=FINEST_VOXELS, ceiling=ceiling)).any()
        ):
            found = some
        step = edge // FINEST_VOXELS
        box = [slice(int(k.min()) // step * step, int(k.max()) + 1) for k in found.nonzero()]
        cells = found[box[0], box[1], box[2]]
        for k in range(3):
            cells = np.logical_or.reduceat(cells, range(0, cells.shape[k], step), axis=k)
        z, y, x = (
            slice(part.start * FINEST_VOXELS, min(part.stop * FINEST_VOXELS, n))
            for part, n in zip(box, density.shape, strict=True)
        )
        nz, ny, nx = density.shape
        return cls((z, y, x), cells, edge, (nz, ny, nx))

    @property
    def shape(self) -> Shape:
        """(z, y, x) voxels of the region."""
        z, y, x = (part.stop - part.start for part in self.region)
        return z, y, x

    def in_tiles(self, tiling: Tiling) -> Cells:
        """(z, y, x) tiles that hold any of the cells, from differences of running sums."""
        counts = self.cells.astype(np.int64)
        for k, starts in enumerate(tiling.starts(self.shape)):
            sums = np.insert(counts.cumsum(axis=k), 0, 0, axis=k)
            first = np.array(starts) // self.edge
            last = -(-(np.array(starts) + tiling.shape[k]) // self.edge)
            counts = sums.take(last.clip(max=counts.shape[k]), axis=k) - sums.take(first, axis=k)
        return counts > 0


@dataclass(frozen=True)
class Layout:
    """The tiles that the network sees.

    Parameters
    ----------
    tiling
        their shape and blending.
    region
        the part of the map that they cover.
    corners
        (z, y, x) voxels in the region.
    skipped
        tiles of the region that are left out as empty.
    """

    tiling: Tiling
    region: tuple[slice, slice, slice]
    corners: list[Corner]
    skipped: int

    @property
    def voxels(self) -> int:
        """Of all tiles together: the work to do."""
        return len(self.corners) * self.tiling.voxels

    def skipped_share(self, shape: Shape) -> float:
        """About which share of a map of ``shape`` voxels is skipped."""
        region = prod(part.stop - part.start for part in self.region)
        tiles = len(self.corners) + self.skipped
        return 1 - region / prod(shape) * len(self.corners) / tiles


def paper_layout(density: FloatArray) -> Layout:
    """Boxes of 48³ every 12 voxels where anything is positive, as in EMReady."""
    corners = PAPER.corners(density.shape)
    seen = [c for c in corners if extract_box(density, c, PAPER.shape).max() > 0]
    z, y, x = (slice(0, n) for n in density.shape)
    return Layout(PAPER, (z, y, x), seen, len(corners) - len(seen))


def default_layout(signal: Signal, architecture: Architecture, most_voxels: int) -> Layout:
    """The least work that does not lower the quality.

    With a normalisation over the tile it has to be 48³. With one over single voxels tiles are as
    large as pays and as memory allows (``most_voxels``).
    """
    tiling = HALF_OVERLAP
    if architecture.norm == "voxel":
        tiling = cheapest_tiling(signal, most_voxels)
    occupied = signal.in_tiles(tiling)
    corners = tiling.corners(signal.shape)
    seen = [corner for corner, full in zip(corners, occupied.flat, strict=True) if full]
    # what tiles see behind the signal is that of the map, as far as it goes
    z, y, x = (
        slice(part.start, min(part.start + last + edge, n))
        for part, last, edge, n in zip(
            signal.region, corners[-1], tiling.shape, signal.whole, strict=True
        )
    )
    return Layout(tiling, (z, y, x), seen, len(corners) - len(seen))


def cheapest_tiling(signal: Signal, most_voxels: int) -> Tiling:
    """The tiling that covers all signal with the fewest voxels in all tiles together.

    Tiles consist of whole cells and overlap by one. The windows of a SCUNet fit into a cell, so
    those of neighbouring tiles coincide, and a voxel far from the faces has one and the same value
    in every tile.
    """
    step = signal.edge
    lengths = [-(-n // step) for n in signal.shape]
    edges = [
        range(1, 2) if n == 1 else range(2, min(n, max(LONGEST_EDGE // step, 2)) + 1)
        for n in lengths
    ]
    tilings = [
        Tiling(
            (z * step, y * step, x * step),
            (max(z - 1, 1) * step, max(y - 1, 1) * step, max(x - 1, 1) * step),
            "smooth",
            hanging=True,
        )
        for z, y, x in product(*edges)
        if z * y * x <= max(most_voxels // step**3, 8)
    ]
    work = [int(signal.in_tiles(tiling).sum()) * tiling.voxels for tiling in tilings]
    return tilings[int(np.argmin(work))]


def _profile(edge: int, stride: int) -> NDArray[np.float64]:
    """(edge,) sin² ramps over the overlap at both ends: those of two tiles add up to 1."""
    overlap = edge - stride
    ramp = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / max(overlap, 1)) ** 2
    profile = np.ones(edge)
    profile[:overlap] *= ramp
    profile[stride:] *= ramp[::-1]
    return profile
