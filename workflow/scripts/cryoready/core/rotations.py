"""The 24 proper rotations of the cube; mirrors are left out because they invert chirality."""

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rotation:
    """First permute the last three axes by ``axes``, then reverse those in ``flips``."""

    axes: tuple[int, int, int]
    flips: tuple[int, ...]

    def apply(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """A rotated view of ``(..., nz, ny, nx)``; leading axes stay."""
        lead = data.ndim - 3
        turned = data.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return np.flip(turned, tuple(lead + axis for axis in self.flips))

    def undo(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inverse of `apply`, also a view."""
        lead = data.ndim - 3
        straight = np.flip(data, tuple(lead + axis for axis in self.flips))
        back = np.argsort(self.axes)
        return straight.transpose(*range(lead), *(lead + int(axis) for axis in back))


def _determinant(axes: tuple[int, ...], flips: tuple[int, ...]) -> int:
    parity = round(float(np.linalg.det(np.eye(3)[list(axes)])))
    return parity if len(flips) % 2 == 0 else -parity


PROPER_ROTATIONS: tuple[Rotation, ...] = tuple(
    Rotation((axes[0], axes[1], axes[2]), flips)
    for axes in permutations(range(3))
    for flips in (tuple(k for k in range(3) if choice[k]) for choice in product((0, 1), repeat=3))
    if _determinant(axes, flips) == 1
)
