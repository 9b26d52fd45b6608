"""Where a map may hold density of the molecule, and where it holds nothing but solvent noise.

The network never sees the rest, so weak density must not be cut. The map is judged by the mean of
its positive part over a few Å: detail that stands out raises it even if its own mean is zero, and
a domain too weak to be seen at any voxel raises it over its whole extent, while noise averages out.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, binary_propagation, gaussian_filter
from scipy.special import ndtr

from cryoready.core.volume import FloatArray
from cryoready.density.masks import BoolArray

BLOCK = 4  # voxels; the finest distinction made
SMOOTHING = 0.9  # blocks, standard deviation; with the blocks themselves about 3.8 voxels
MARGIN = 2  # blocks around density that count as density
NOTHING = 1e-3  # of the strongest block: what interpolation leaves in empty space
MASK_EDGE = 2  # blocks at a mask's edge that do not tell what noise is
UNEVEN = 1 / 3  # relative spread of the positive part beyond which it is not that of noise
ONE_SIDED = 2.0  # noise is at most so many times stronger above zero than below
SIGMAS = (4.0, 6.0)  # above the usual level of noise density begins, as high in this range as
WEAK = 0.05  # of the strongest block's height over that level allows
WEAKEST = 0.08  # of that height: if noise reaches so high, a weak domain may hide in it
EDGE_SIGMAS = 3.0  # what touches density is density from here on
LEAST_BLOCKS = 500  # to know the noise


def signal_cells(
    density: FloatArray, *, cell_voxels: int = 24, ceiling: float = np.inf
) -> BoolArray:
    """Cells that may hold density of the molecule: (cz, cy, cx), those at the ends ragged.

    A cell does if some block of 4³ voxels, in it or within 8 voxels of it, is not empty and, where
    the map has solvent noise, its smoothed positive part is above what noise reaches or connected
    to such a part and above what most noise reaches.

    Parameters
    ----------
    density
        (nz, ny, nx) on a grid of about 1 Å, in any unit. Only its positive part counts, as for the
        network: solvent that lies above zero, not around it or below, is kept.
    cell_voxels
        edge of a cell, a multiple of 4.
    ceiling
        density that counts as the strongest, so that a hot voxel does not make all else look weak.
    """
    if cell_voxels % BLOCK:
        raise ValueError(f"a cell is a multiple of {BLOCK} voxels, not {cell_voxels}")
    positive, negative = _block_means(density, ceiling)
    nonempty = positive + negative > NOTHING * positive.max()
    strength = gaussian_filter(positive, SMOOTHING, mode="nearest")
    weakness = gaussian_filter(negative, SMOOTHING, mode="nearest")
    inner = binary_erosion(nonempty, np.ones((3, 3, 3)), iterations=MASK_EDGE, border_value=1)
    edge, core = _noise_limits(strength[inner], weakness[inner])
    occupied = positive > NOTHING * positive.max()
    found = binary_propagation(occupied & (strength > core), mask=occupied & (strength > edge))
    near = binary_dilation(found, np.ones((3, 3, 3)), iterations=MARGIN)
    return _reduce(np.logical_or, near, cell_voxels // BLOCK)


def _noise_limits(positive: FloatArray, negative: FloatArray) -> tuple[float, float]:
    """Limits of the positive part, given both parts (n,) where a map is far from empty space.

    Above the second there is density, above the first what is connected to it belongs to it.
    Solvent noise is there if most blocks are alike and as much below zero as above it. Then their
    median is the level of the noise and the half below it tells the spread, untouched by density.
    Both are 0 if there is no such noise (a map masked, clipped or cropped), or if it is too strong
    to be told from weak density.
    """
    if len(positive) < LEAST_BLOCKS:
        return 0.0, 0.0
    low, level = np.percentile(positive, [100 * ndtr(-1), 50])
    spread, height = level - low, positive.max() - level
    core = np.clip(WEAK * height, *np.multiply(SIGMAS, spread))
    is_noise = spread < UNEVEN * level and level < ONE_SIDED * np.median(negative)
    if not is_noise or core > WEAKEST * height:
        return 0.0, 0.0
    return float(level + EDGE_SIGMAS * spread), float(level + core)


def _block_means(density: FloatArray, ceiling: float) -> tuple[FloatArray, FloatArray]:
    """Mean of the positive and of the negative part (as a positive number) of every block."""
    sums = np.array(
        [
            [_reduce(np.add, part, BLOCK)[0] for part in (np.maximum(slab, 0), slab)]
            for slab in (
                density[z : z + BLOCK].clip(-ceiling, ceiling)
                for z in range(0, len(density), BLOCK)
            )
        ]
    )
    edges = [np.minimum(BLOCK, n - np.arange(0, n, BLOCK)) for n in density.shape]
    voxels = np.einsum("z,y,x->zyx", *edges).astype(np.float32)
    positive, mean = sums[:, 0] / voxels, sums[:, 1] / voxels
    return positive, positive - mean


def _reduce(function: np.ufunc, values: NDArray[Any], edge: int) -> NDArray[Any]:
    """``function`` over blocks of ``edge``³, those at the ends smaller."""
    for k, n in enumerate(values.shape):
        values = function.reduceat(values, np.arange(0, n, edge), axis=k)
    return values
