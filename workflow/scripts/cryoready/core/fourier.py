"""Frequency grids and radial shells of real volumes."""

import numpy as np
from numpy.typing import NDArray

from cryoready.core.volume import Vector


def frequency_radius(shape: tuple[int, int, int], voxel_size: Vector) -> NDArray[np.float32]:
    """|s| of every coefficient of `scipy.fft.rfftn`, (nz, ny, nx // 2 + 1), 1/Å."""
    z, y = (np.fft.fftfreq(n, d) for n, d in zip(shape[:2], voxel_size[:2], strict=True))
    x = np.fft.rfftfreq(shape[2], voxel_size[2])
    squared = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
    return np.sqrt(squared).astype(np.float32)


def shell_index(radius: NDArray[np.float32], width: float) -> NDArray[np.int64]:
    """Number of the shell of ``width`` (1/Å) in which each frequency lies; same shape."""
    if width <= 0:
        raise ValueError(f"shell width must be positive, got {width} 1/Å")
    return np.floor(radius / width).astype(np.int64)
