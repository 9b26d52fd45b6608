"""The intensity normalisation of training and inference: there is no other."""

import numpy as np

from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import FloatArray
from cryoready.density.largest import largest

CONVENTION = "positive-99.999-percentile x100"  # as stored in the cards of weights
PERCENTILE = 99.999
NETWORK_SCALE = 100.0  # the published network sees and returns 0-100


def intensity_scale(density: FloatArray) -> float:
    """The 99.999 percentile of the positive voxels.

    Raises
    ------
    CryoreadyError
        if no voxel is positive.
    """
    check_positive(density)
    count = np.count_nonzero(density > 0)
    above = (1 - PERCENTILE / 100) * (count - 1)  # voxels above the percentile, with a fraction
    top = np.sort(largest(density, int(above) + 2))[::-1]
    return float(np.interp(above, np.arange(top.size), top))


def check_positive(density: FloatArray) -> None:
    """Raise `CryoreadyError` if no voxel is positive."""
    if density.max() <= 0:
        raise CryoreadyError(
            f"the map has no positive voxel (maximum {density.max():g}): "
            "is its contrast inverted? Multiply it by -1 first."
        )


def normalise(density: FloatArray, scale: float) -> FloatArray:
    """Density / ``scale``, clipped to [0, 1] (EMReady, doi 10.1038/s41467-023-39031-1, Methods)."""
    scaled = density / np.float32(scale)
    return np.clip(scaled, 0, 1, out=scaled)
