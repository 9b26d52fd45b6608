"""What a depositor does to a map: sharpen, filter, mask, clip, store.

Arrays are NumPy's or tensors on any device. s is the spatial frequency in 1/Å; B acts on
amplitudes as exp(-B s²/4).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from cryoready.density.gaussians import Array, like
from cryoready.density.noise import Noise, half_map_fsc
from cryoready.density.resample import axis_operator
from cryoready.density.spectrum import Frequencies

STEPS = ("filter", "mask", "clip", "regrid")
LEVELS: Mapping[str, int] = {"int8": 255, "int16": 65535}  # steps between lowest and highest value


@dataclass(frozen=True, eq=False)
class Deposition:
    """How a map was post-processed and stored.

    Parameters
    ----------
    sharpening
        Å², undone up to the resolution (0: none).
    fsc_weighting
        whether amplitudes were weighted by √(2 FSC/(1 + FSC)).
    lowpass
        Å (0: none).
    mask_radius, mask_edge
        Å around the particle and Å of the edge (radius 0: no mask, edge 0: hard).
    clip
        whether negative values were set to 0.
    voxel_size, shift
        Å and (3,) voxels: grid on which the map was stored.
    quantisation
        float32, float16, int16 or int8.
    order
        of filter, mask, clip and regrid; storing is the last step.
    """

    sharpening: float
    fsc_weighting: bool
    lowpass: float
    mask_radius: float
    mask_edge: float
    clip: bool
    voxel_size: float
    shift: NDArray[np.float64]
    quantisation: str
    order: tuple[str, ...]


def draw_deposition(rng: np.random.Generator, resolution: float, b_factor: float) -> Deposition:
    """What is done with a map of ``resolution`` (Å) whose signal falls with ``b_factor`` (Å²)."""
    masked = rng.random() < 0.4
    weighted = bool(rng.random() < 0.5)
    filtered = rng.random() < (0.4 if weighted else 0.95)
    sharpening = b_factor * rng.uniform(0.5, 1.1) * (1 if weighted or filtered else 0.5)
    return Deposition(
        sharpening=float(np.clip(sharpening, 20, 300)) * (rng.random() < 0.92),
        fsc_weighting=weighted,
        lowpass=resolution * rng.uniform(0.7, 1.0) * filtered,
        mask_radius=rng.uniform(4, 14) * masked,
        mask_edge=rng.uniform(2, 8) * (rng.random() < 0.85),
        clip=bool(rng.random() < 0.3),
        voxel_size=rng.uniform(0.5, 1.6),
        shift=rng.uniform(-0.5, 0.5, 3),
        quantisation=str(
            rng.choice(["float32", "float16", "int16", "int8"], p=[0.7, 0.1, 0.1, 0.1])
        ),
        order=tuple(str(step) for step in rng.permutation(STEPS)),
    )


def sharpen(frequencies: Frequencies, b_factor: float, resolution: float) -> Array:
    """exp(+B s²/4) up to 1/``resolution``, and as there beyond."""
    xp = array_namespace(frequencies.radius)
    return xp.exp(b_factor * xp.clip(frequencies.radius, 0, 1 / resolution) ** 2 / 4)


def fsc_weight(frequencies: Frequencies, noise: Noise) -> Array:
    """√(2 FSC/(1 + FSC)): the expected correlation with the truth.

    Rosenthal & Henderson 2003, doi 10.1016/j.jmb.2003.07.013, C_ref.
    """
    xp = array_namespace(frequencies.radius)
    fsc = half_map_fsc(frequencies.radius, noise.resolution, noise.fsc_slope)
    return xp.sqrt(2 * fsc / (1 + fsc))


def lowpass(frequencies: Frequencies, resolution: float) -> Array:
    """Squared Butterworth filter of 8th order: amplitude 1/2 at 1/``resolution``."""
    return 1 / (1 + (frequencies.radius * resolution) ** 16)


def quantise(density: Array, kind: str) -> Array:
    """``density`` after storage as float32, float16, int16 or int8 (MRC modes 2, 12, 1, 0)."""
    xp = array_namespace(density)
    low, high = xp.min(density), xp.max(density)
    if kind == "float32" or bool(low == high):
        return density
    if kind == "float16":
        largest = xp.max(xp.abs(density))
        return xp.astype(xp.astype(density / largest, xp.float16), density.dtype) * largest
    step = (high - low) / LEVELS[kind]
    return low + step * xp.round((density - low) / step)


def regrid(density: Array, spacing: float, voxel_size: float, shift: NDArray[np.float64]) -> Array:
    """``density`` stored on a grid of ``voxel_size`` (Å), and back.

    The other grid begins ``shift`` (3,) of its voxels after this one. Both ways as
    `resample.resample` does it.
    """
    xp = array_namespace(density)
    for k, n in enumerate(density.shape):
        there_and_back = xp.asarray(
            round_trip(n, spacing, voxel_size, float(shift[k])), **like(density)
        )
        density = xp.moveaxis(xp.tensordot(there_and_back, density, axes=((1,), (k,))), 0, k)
    return density


@lru_cache(maxsize=16)
def round_trip(n: int, spacing: float, voxel_size: float, shift: float) -> NDArray[np.float32]:
    """Matrix (n, n): one axis to a grid of ``voxel_size`` (Å) that starts at ``shift`` and back."""
    here = spacing * np.arange(n, dtype=np.float64)
    voxels = int(np.ceil(here[-1] / voxel_size)) + 1
    there = voxel_size * (shift + np.arange(voxels, dtype=np.float64))
    return np.asarray(axis_operator(there, here) @ axis_operator(here, there))


def deposit(
    coefficients: Array,
    frequencies: Frequencies,
    how: Deposition,
    noise: Noise,
    mask: Array | None,
) -> Array:
    """The density (nz, ny, nx) that a depositor makes of the ``coefficients`` of a map.

    Parameters
    ----------
    coefficients
        of the full map, `rfftn`.
    frequencies
        of ``coefficients``.
    how
        what is done, in which order.
    noise
        whose FSC weights the amplitudes, up to whose resolution is sharpened.
    mask
        (nz, ny, nx) 0-1, or None.
    """
    xp = array_namespace(coefficients)
    gain = sharpen(frequencies, how.sharpening, noise.resolution)
    if how.fsc_weighting:
        gain = gain * fsc_weight(frequencies, noise)
    if how.lowpass:
        gain = gain * lowpass(frequencies, how.lowpass)
    density = None
    for step in how.order:
        if step == "filter":
            if density is not None:
                coefficients = xp.fft.rfftn(density)
            density = frequencies.to_density(coefficients * gain)
            continue
        if density is None:
            density = frequencies.to_density(coefficients)
        if step == "mask" and mask is not None:
            density = density * mask
        elif step == "clip" and how.clip:
            density = xp.clip(density, 0, None)
        elif step == "regrid":
            density = regrid(density, frequencies.spacing, how.voxel_size, how.shift)
    return quantise(density, how.quantisation)
