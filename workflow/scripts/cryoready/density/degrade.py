"""From clean density to what a microscope and a depositor would have made of it.

The order is physical: blur of the signal, noise, then the depositor's sharpening and filter. All
filters are isotropic, so they are one product in Fourier space. s is the spatial frequency in 1/Å;
B acts on amplitudes as exp(-B s²/4).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from cryoready.core.fourier import frequency_radius, shell_index
from cryoready.core.volume import FloatArray, Vector, Volume
from cryoready.density.masks import BoolArray, soften


@dataclass(frozen=True)
class Degradation:
    """What happens to one simulated map.

    Parameters
    ----------
    resolution
        Å: where the half-map FSC crosses 0.143.
    b_factor
        Å², of the signal, on top of the width of the atoms.
    sharpening
        Å², undone by the depositor (0: none).
    fsc_slope
        1/Å, width of the logistic fall of the half-map FSC.
    fsc_weighting
        whether the depositor weights by √(2 FSC / (1 + FSC)).
    lowpass
        Å, the depositor's low-pass (0: none).
    """

    resolution: float
    b_factor: float
    sharpening: float
    fsc_slope: float
    fsc_weighting: bool
    lowpass: float


def draw_degradation(rng: np.random.Generator, resolution: float) -> Degradation:
    """A plausible deposited map of reported ``resolution`` (Å).

    Reported and true resolution differ, most depositors sharpen too little rather than too much,
    and filter near the reported resolution.
    """
    b_factor = rng.uniform(20, 70) * (resolution - 1.5)
    return Degradation(
        resolution=resolution * rng.uniform(0.75, 1.05),
        b_factor=b_factor,
        sharpening=b_factor * rng.choice([0.0, rng.uniform(0.2, 1.0)], p=[0.2, 0.8]),
        fsc_slope=rng.uniform(0.012, 0.035),
        fsc_weighting=bool(rng.random() < 0.6),
        lowpass=resolution * rng.choice([0.0, rng.uniform(0.85, 1.1)], p=[0.25, 0.75]),
    )


def half_map_fsc(
    radius: NDArray[np.float32], resolution: float, slope: float
) -> NDArray[np.float32]:
    """Logistic FSC between half-maps at frequency ``radius`` (1/Å), 0.143 at 1/``resolution``."""
    middle = 1 / resolution - slope * np.log(1 / 0.143 - 1)
    argument = np.clip((radius - middle) / slope, -30, 30)
    return np.asarray(1 / (1 + np.exp(argument)), dtype=np.float32)


def _shell_mean(values: NDArray[np.float32], shells: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean over each shell, put back at every coefficient."""
    counts = np.bincount(shells.ravel())
    sums = np.bincount(shells.ravel(), values.ravel())
    return (sums / np.maximum(counts, 1))[shells].astype(np.float32)


def degrade(
    volume: Volume, how: Degradation, rng: np.random.Generator, *, occupied: float
) -> Volume:
    """Blur, add noise of the wanted spectrum, sharpen and filter ``volume``.

    Inside the particle, the noise of the full map has in every shell the power of the signal
    divided by SSNR = 2 FSC/(1 - FSC), FSC that of the masked half-maps (Rosenthal & Henderson 2003,
    doi 10.1016/j.jmb.2003.07.013), kept finite where the FSC is nearly 0. The noise fills the box,
    the signal only the share ``occupied`` of it.
    """
    radius = frequency_radius(volume.data.shape, volume.voxel_size)
    shells = shell_index(radius, 1 / (max(volume.data.shape) * float(volume.voxel_size.max())))
    fsc = half_map_fsc(radius, how.resolution, how.fsc_slope)
    signal = fft.rfftn(volume.data) * np.exp(-how.b_factor * radius**2 / 4)
    ssnr = 2 * fsc / np.maximum(1 - fsc, 1e-3)
    noise_power = _shell_mean(np.abs(signal) ** 2, shells) / np.maximum(ssnr, 1e-2) / occupied
    white = fft.rfftn(rng.standard_normal(volume.data.shape).astype(np.float32))
    noise = white * np.sqrt(noise_power / volume.data.size)
    restore = np.exp(how.sharpening * np.minimum(radius, 1 / how.resolution) ** 2 / 4)
    if how.fsc_weighting:
        restore *= np.sqrt(2 * fsc / (1 + fsc))
    if how.lowpass:
        restore *= 1 / (1 + (radius * how.lowpass) ** 16)  # Butterworth of 8th order
    degraded = fft.irfftn((signal + noise) * restore, s=volume.data.shape)
    return Volume.on(volume.grid, degraded.astype(np.float32))


def local_b_factors(coords: Vector, rng: np.random.Generator, largest: float) -> Vector:
    """A smooth random field of B (Å², 0 … ``largest``) at the atoms ((n, 3) Å): floppy domains."""
    wave_vector = rng.normal(size=3) / 30.0  # features of about 2π·30/√3 ≈ 100 Å
    phase = rng.uniform(0, 2 * np.pi)
    return np.asarray(largest * (0.5 + 0.5 * np.sin(coords @ wave_vector + phase)))


def empty_region(density: FloatArray, *, least_share: float = 0.3) -> BoolArray:
    """Voxels that a depositor's mask set to one constant; none if they are a minor share."""
    values, counts = np.unique(density, return_counts=True)
    most = int(counts.argmax())
    if counts[most] < least_share * density.size:
        return np.zeros(density.shape, dtype=bool)
    return np.asarray(density == values[most])


def fill_solvent(
    volume: Volume, empty: BoolArray, *, sigma: float, resolution: float, rng: np.random.Generator
) -> Volume:
    """Put band-limited noise of standard deviation ``sigma`` where a mask left nothing.

    A map masked around its model shows the network where the model is; solvent hides it again.

    Parameters
    ----------
    volume
        the masked map.
    empty
        (nz, ny, nx) what the mask removed.
    sigma
        in units of the map.
    resolution
        Å; the noise is smoothed to about this.
    rng
        seeded generator of the noise.
    """
    width = 0.25 * resolution / volume.voxel_size
    noise = gaussian_filter(rng.standard_normal(volume.data.shape).astype(np.float32), width)
    noise *= sigma / noise.std()
    share = soften(empty, volume.voxel_size, edge=3.0)
    return Volume.on(volume.grid, volume.data + share * noise)
