"""Which boxes the network sees, how their results are weighted, and what that costs."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cryoready.core.boxes import Corner, box_starts, extract_box
from cryoready.core.volume import FloatArray

# Peak memory of a forward pass per voxel of a batch at base width 32, rather too high than too low:
# for EMD-3488 at width 16 in fp32 the estimate is 1.2 GB, the peak was 0.86 GB.
BYTES_PER_VOXEL = {"fp32": 3100, "bf16": 1250}
BASE_BYTES = 450_000_000  # interpreter and libraries
FULL_SIZE_ARRAYS = 6  # input, 1 Å map, sum, weight, result, resampling buffer; float32


@dataclass(frozen=True)
class Tiling:
    """Overlapping boxes and their blending.

    Parameters
    ----------
    edge_voxels
        of the cubic boxes.
    stride_voxels
        between boxes.
    blending
        "uniform", or "smooth": a raised cosine, so that voxels count less near the faces of a box,
        where the network does not see their surroundings.
    """

    edge_voxels: int
    stride_voxels: int
    blending: Literal["uniform", "smooth"]


PRESETS = {"paper": Tiling(48, 12, "uniform"), "default": Tiling(48, 24, "smooth")}


def box_weight(tiling: Tiling) -> FloatArray:
    """(edge, edge, edge) positive weight of every voxel of a box."""
    edge = tiling.edge_voxels
    if tiling.blending == "uniform":
        return np.ones((edge, edge, edge), dtype=np.float32)
    profile = np.sin(np.pi * (np.arange(edge) + 0.5) / edge) ** 2
    return np.einsum("i,j,k->ijk", profile, profile, profile).astype(np.float32)


def occupied_corners(density: FloatArray, tiling: Tiling) -> tuple[list[Corner], int]:
    """Corners of the boxes that hold a positive voxel, and how many were left out as empty."""
    corners = box_starts(density.shape, tiling.edge_voxels, tiling.stride_voxels)
    occupied = [c for c in corners if extract_box(density, c, tiling.edge_voxels).max() > 0]
    return occupied, len(corners) - len(occupied)


def box_bytes(edge_voxels: int, width: int, precision: str) -> int:
    """Working memory of one box in the network."""
    return int(edge_voxels**3 * BYTES_PER_VOXEL[precision] * width / 32)


def choose_batch_size(free_bytes: int, box: int, most: int) -> int:
    """As many boxes as fit into half of the free memory, at least 1 and at most ``most``."""
    return int(np.clip(free_bytes // 2 // box, 1, most))


def memory_estimate(voxels: int, box: int, batch_size: int) -> int:
    """Peak bytes of an enhancement: full-size arrays, one batch, the libraries."""
    return BASE_BYTES + FULL_SIZE_ARRAYS * 4 * voxels + batch_size * box
