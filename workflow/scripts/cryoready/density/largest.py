"""The largest values of a map, without a sorted copy of it."""

import numpy as np

from cryoready.core.volume import FloatArray

CHUNK = 2**20  # voxels looked at together


def largest(values: FloatArray, count: int) -> FloatArray:
    """The ``count`` largest of ``values`` (any shape), in no order, (count,); all if fewer.

    Only what exceeds the least of those found so far is kept, so memory is a few times ``count``.
    """
    flat = values.reshape(-1)
    found, least = flat[:0], -np.inf
    for first in range(0, flat.size, CHUNK):
        chunk = flat[first : first + CHUNK]
        found = np.concatenate([found, chunk[chunk > least]])
        if found.size > 2 * count + CHUNK or first + CHUNK >= flat.size:
            found = np.partition(found, max(0, found.size - count))[-count:]
            least = found.min() if found.size == count else -np.inf
    return found
