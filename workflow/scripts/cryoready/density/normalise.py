"""The intensity normalisation of training and inference: there is no other."""

import numpy as np

from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import FloatArray

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
    return float(np.percentile(density[density > 0], PERCENTILE, overwrite_input=True))


def check_positive(density: FloatArray) -> None:
    """Raise `CryoreadyError` if no voxel is positive."""
    if density.max() <= 0:
        raise CryoreadyError(
            f"the map has no positive voxel (maximum {density.max():g}): "
            "is its contrast inverted? Multiply it by -1 first."
        )


def normalise(density: FloatArray, scale: float) -> FloatArray:
    """Density / ``scale``, clipped to [0, 1] (EMReady, doi 10.1038/s41467-023-39031-1, Methods)."""
    return np.clip(density / np.float32(scale), 0, 1, dtype=np.float32)
