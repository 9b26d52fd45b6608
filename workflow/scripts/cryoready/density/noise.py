"""Noise of half-maps with a wanted Fourier shell correlation."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from cryoready.density.gaussians import Array
from cryoready.density.spectrum import Frequencies

Normal = Callable[[tuple[int, ...]], Array]  # shape -> standard normal values

LEAST_MISFIT = 1e-3  # 1 - FSC is at least this


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise of a reconstruction.

    Parameters
    ----------
    resolution
        Å: where the half-map FSC crosses 0.143.
    fsc_slope
        1/Å, width of the logistic fall of the FSC.
    ramp
        1/Å, relative growth of the noise with the distance from ``centre``.
    centre
        (3,) zyx, Å from the centre of the box: the middle of the particle.
    """

    resolution: float
    fsc_slope: float
    ramp: float
    centre: NDArray[np.float64]


def draw_noise(rng: np.random.Generator, resolution: float) -> Noise:
    """Noise of a map reported at ``resolution`` (Å): the resolution of a part differs from it."""
    return Noise(
        resolution=resolution * rng.uniform(0.85, 1.15),
        fsc_slope=rng.uniform(0.04, 0.14) / resolution,
        ramp=rng.uniform(0, 0.01),
        centre=rng.normal(size=3) * 30,
    )


def half_map_fsc(radius: Array, resolution: float, slope: float) -> Array:
    """Logistic FSC between half-maps at frequency ``radius`` (1/Å), 0.143 at 1/``resolution``."""
    xp = array_namespace(radius)
    middle = 1 / resolution - slope * float(np.log(1 / 0.143 - 1))
    return 1 / (1 + xp.exp(xp.clip((radius - middle) / slope, -30, 30)))


def growing(frequencies: Frequencies, how: Noise) -> Array:
    """1 + ramp × distance from the centre, (nz, ny, nx), of mean square 1."""
    xp = array_namespace(frequencies.radius)
    squared = sum(
        (axis - float(c)) ** 2 for axis, c in zip(frequencies.positions, how.centre, strict=True)
    )
    gain = 1 + how.ramp * xp.sqrt(squared)
    return gain / xp.sqrt(xp.mean(gain**2))


def noise_power(signal: Array, frequencies: Frequencies, how: Noise) -> Array:
    """Power of the noise of one half-map in every shell: that of the signal / SSNR, (shells,).

    SSNR = FSC/(1 - FSC) (Rosenthal & Henderson 2003, doi 10.1016/j.jmb.2003.07.013). Beyond the
    resolution it stays what it is there: the signal fades, the noise does not.
    """
    xp = array_namespace(signal)
    power = frequencies.shell_means(xp.real(signal) ** 2 + xp.imag(signal) ** 2)
    power = xp.clip(power, 0, None)  # a parallel running sum may fall by a rounding error
    middle = (
        xp.arange(power.shape[0], dtype=xp.float64, device=device(signal)) + 0.5
    ) * frequencies.shell_width
    fsc = half_map_fsc(middle, how.resolution, how.fsc_slope)
    wanted = power * xp.clip(1 - fsc, LEAST_MISFIT, 1) / fsc
    last = max(3, min(int(1 / (how.resolution * frequencies.shell_width)), power.shape[0]))
    beyond = middle > last * frequencies.shell_width
    return xp.where(beyond, xp.mean(wanted[last - 3 : last]), wanted)


def half_maps(
    signal: Array, frequencies: Frequencies, how: Noise, normal: Normal, *, occupied: float
) -> tuple[Array, Array]:
    """Coefficients of two half-maps: ``signal`` with noise drawn independently for each.

    Their mean, the full map, has the SSNR 2 FSC/(1 - FSC).

    Parameters
    ----------
    signal
        coefficients (`rfftn`) of the noise-free map.
    frequencies
        of ``signal``.
    how
        spectrum and spatial trend of the noise.
    normal
        draws standard normal values in the library and on the device of ``signal``.
    occupied
        share of the box that the particle fills: the noise fills all of it, and the FSC is that of
        the particle.
    """
    xp = array_namespace(signal)
    size = int(np.prod(frequencies.shape))
    amplitude = frequencies.spread(
        xp.sqrt(noise_power(signal, frequencies, how) / (size * occupied))
    )
    gain = growing(frequencies, how)
    first, second = (
        signal + amplitude * xp.fft.rfftn(gain * normal(frequencies.shape)) for _ in range(2)
    )
    return first, second
