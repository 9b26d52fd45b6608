"""Display levels: the same contour before and after means the same enclosed volume."""

import numpy as np

from cryoready.core.volume import FloatArray


def default_contour(density: FloatArray) -> float:
    """Mean + 3 standard deviations: where viewers start when nobody gave a level."""
    return float(density.mean(dtype=np.float64) + 3 * density.std(dtype=np.float64))


def matching_contour(before: FloatArray, contour: float, after: FloatArray) -> float:
    """The level of ``after`` that encloses as many voxels as ``contour`` encloses in ``before``.

    Both maps are on the same grid, so equal counts are equal volumes.
    """
    count = int(np.count_nonzero(before >= contour))
    if count == 0:
        return float(after.max())
    rank = after.size - count
    return float(np.partition(after.ravel(), rank)[rank])
