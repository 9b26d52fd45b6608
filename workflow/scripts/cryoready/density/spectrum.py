"""Fourier coefficients of a box and their shells: NumPy arrays or tensors, on any device."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from cryoready.core.fourier import frequency_radius, shell_index
from cryoready.density.gaussians import Array, like


@dataclass(frozen=True, eq=False)
class Frequencies:
    """Where the coefficients of `rfftn` lie, in 1/Å.

    Parameters
    ----------
    shape, spacing
        (nz, ny, nx) and voxel size (Å) of the box.
    axes
        zyx components, shaped (nz, 1, 1), (1, ny, 1) and (1, 1, nx // 2 + 1).
    radius
        (nz, ny, nx // 2 + 1) their length s.
    """

    shape: tuple[int, int, int]
    spacing: float
    axes: tuple[Array, Array, Array]
    radius: Array

    @classmethod
    def of(cls, density: Array, spacing: float) -> "Frequencies":
        """The frequencies of ``density`` (nz, ny, nx), in its library, type and device."""
        xp = array_namespace(density)
        nz, ny, nx = density.shape
        radius, _, _ = _shells((nz, ny, nx), spacing)
        full = [xp.asarray(np.fft.fftfreq(n, spacing), **like(density)) for n in (nz, ny)]
        half = xp.asarray(np.fft.rfftfreq(nx, spacing), **like(density))
        axes = (full[0][:, None, None], full[1][None, :, None], half[None, None, :])
        return cls((nz, ny, nx), spacing, axes, xp.asarray(radius, **like(density)))

    @property
    def positions(self) -> tuple[Array, Array, Array]:
        """z, y and x of the voxels, Å from the centre of the box, shaped like `axes`."""
        xp = array_namespace(self.radius)
        z, y, x = (
            (xp.arange(n, **like(self.radius)) - (n - 1) / 2) * self.spacing for n in self.shape
        )
        return z[:, None, None], y[None, :, None], x[None, None, :]

    def along(self, direction: NDArray[np.float64]) -> Array:
        """Component of every frequency along the unit vector ``direction`` (3,) zyx, 1/Å."""
        return sum(float(d) * axis for d, axis in zip(direction, self.axes, strict=True))

    def to_density(self, coefficients: Array) -> Array:
        """The real density (nz, ny, nx) of ``coefficients`` as given by `rfftn`."""
        xp = array_namespace(coefficients)
        return xp.fft.irfftn(coefficients, s=self.shape, axes=(0, 1, 2))

    def shell_means(self, values: Array) -> Array:
        """Mean of ``values`` over every shell, (shells,) double precision.

        Shells are one coefficient of the longest axis wide. The sums are differences of a running
        sum along the sorted radius.
        """
        xp = array_namespace(values)
        _, order, ends = _shells(self.shape, self.spacing)
        where = device(values)
        along_radius = xp.take(xp.reshape(values, (-1,)), xp.asarray(order, device=where))
        running = xp.cumulative_sum(xp.astype(along_radius, xp.float64), include_initial=True)
        stops = xp.asarray(ends, device=where)
        total = xp.take(running, stops[1:]) - xp.take(running, stops[:-1])
        return total / xp.astype(stops[1:] - stops[:-1], xp.float64)

    @property
    def shell_width(self) -> float:
        """1/Å."""
        return 1 / (max(self.shape) * self.spacing)

    def spread(self, shell_values: Array) -> Array:
        """The value of its shell, (shells,), at every coefficient; type and shape of ``radius``."""
        xp = array_namespace(self.radius)
        shell = xp.astype(xp.floor(self.radius / self.shell_width + 1e-4), xp.int64)
        values = xp.take(xp.astype(shell_values, self.radius.dtype), xp.reshape(shell, (-1,)))
        return xp.reshape(values, self.radius.shape)


@cache
def _shells(
    shape: tuple[int, int, int], spacing: float
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Radius (1/Å), its flat order by shell, and where every shell ends in that order."""
    radius = frequency_radius(shape, np.full(3, spacing))
    width = 1 / (max(shape) * spacing)
    shell = shell_index(radius + 1e-4 * width, width).ravel()
    ends = np.concatenate([[0], np.cumsum(np.bincount(shell))])
    return radius, np.argsort(shell, kind="stable"), ends
