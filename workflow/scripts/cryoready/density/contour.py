"""Display levels: the same contour before and after means the same enclosed volume."""

import numpy as np

from cryoready.core.volume import FloatArray
from cryoready.density.largest import largest


def default_contour(density: FloatArray) -> float:
    """Mean + 3 standard deviations: where viewers start when nobody gave a level."""
    flat = density.reshape(-1)
    mean = flat.mean(dtype=np.float64)
    mean_square = np.einsum("i,i->", flat, flat, dtype=np.float64) / flat.size
    return float(mean + 3 * np.sqrt(max(mean_square - mean**2, 0)))


def matching_contour(before: FloatArray, contour: float, after: FloatArray) -> float:
    """The level of ``after`` that encloses as many voxels as ``contour`` encloses in ``before``.

    Both maps are on the same grid, so equal counts are equal volumes.
    """
    count = int(np.count_nonzero(before >= contour))
    if count == 0:
        return float(after.max())
    return float(largest(after, count).min())
