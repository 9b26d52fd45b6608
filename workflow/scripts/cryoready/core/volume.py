"""The map as the package sees it: density, voxel size and position, always in zyx order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]
Vector = NDArray[np.float64]


def _vector(value: ArrayLike) -> Vector:
    """A read-only float64 3-vector; a scalar fills all three axes."""
    vector = np.broadcast_to(np.asarray(value, dtype=np.float64), (3,)).copy()
    vector.flags.writeable = False
    return vector


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular orthogonal grid in space.

    Parameters
    ----------
    shape
        (nz, ny, nx).
    voxel_size
        (3,) zyx, Å; a scalar means isotropic.
    origin
        (3,) zyx, Å: position of the centre of voxel [0, 0, 0].
    """

    shape: tuple[int, int, int]
    voxel_size: Vector
    origin: Vector

    def __post_init__(self) -> None:
        object.__setattr__(self, "voxel_size", _vector(self.voxel_size))
        object.__setattr__(self, "origin", _vector(self.origin))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"a grid has three axes of at least one voxel, got {self.shape}")
        if not (np.isfinite(self.voxel_size).all() and (self.voxel_size > 0).all()):
            raise ValueError(f"voxel size must be positive and finite, got {self.voxel_size}")

    def axis(self, k: int) -> Vector:
        """Positions of the voxel centres along axis ``k``, (shape[k],), Å."""
        return self.origin[k] + self.voxel_size[k] * np.arange(self.shape[k], dtype=np.float64)

    def same_as(self, other: "Grid") -> bool:
        """Whether the voxels of both lie in the same places, to a tenth of a voxel."""
        if self.shape != other.shape:
            return False
        last = [
            grid.origin + grid.voxel_size * (np.array(grid.shape) - 1) for grid in (self, other)
        ]
        tolerance = 0.1 * float(self.voxel_size.min())
        ends = np.abs([self.origin - other.origin, last[0] - last[1]])
        return bool((ends < tolerance).all())

    def __str__(self) -> str:
        sizes = (np.array(self.shape), self.voxel_size.round(4), self.origin.round(2))
        shape, voxel_size, origin = ([f"{value:g}" for value in size[::-1]] for size in sizes)
        return (
            f"{'×'.join(shape)} voxels of {'×'.join(voxel_size)} Å at ({', '.join(origin)}) "
            "(x, y, z)"
        )


@dataclass(frozen=True, eq=False)
class Volume:
    """Density on a regular orthogonal grid.

    Parameters
    ----------
    data
        (nz, ny, nx) float32 density.
    voxel_size
        (3,) zyx, Å; a scalar means isotropic.
    origin
        (3,) zyx, Å: position of the centre of voxel [0, 0, 0].
    """

    data: FloatArray
    voxel_size: Vector
    origin: Vector

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", np.ascontiguousarray(self.data, dtype=np.float32))
        if self.data.ndim != 3:
            raise ValueError(f"a volume has three axes, got {self.data.ndim}")
        grid = Grid(self.data.shape, self.voxel_size, self.origin)  # checks and converts
        object.__setattr__(self, "voxel_size", grid.voxel_size)
        object.__setattr__(self, "origin", grid.origin)

    @property
    def grid(self) -> Grid:
        """The grid without the density."""
        return Grid(self.data.shape, self.voxel_size, self.origin)

    def around(self, coords: Vector, margin: float) -> "Volume":
        """The part within ``margin`` Å of the bounding box of ``coords`` (n, 3) zyx, Å.

        All of it where there is no such part.
        """
        low = (coords.min(axis=0) - margin - self.origin) / self.voxel_size
        high = (coords.max(axis=0) + margin - self.origin) / self.voxel_size
        start = np.maximum(np.floor(low).astype(int), 0)
        stop = np.minimum(np.ceil(high).astype(int) + 1, self.data.shape)
        if (start >= stop).any():
            return self
        part = self.data[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        return Volume(part, self.voxel_size, self.origin + start * self.voxel_size)

    @classmethod
    def on(cls, grid: Grid, data: FloatArray) -> "Volume":
        """Put ``data`` of shape ``grid.shape`` on ``grid``."""
        if data.shape != grid.shape:
            raise ValueError(f"data {data.shape} do not fit the grid {grid.shape}")
        return cls(data, grid.voxel_size, grid.origin)
