"""What an instrument does to the signal: one factor for every Fourier coefficient.

Arrays are NumPy's or tensors on any device. s is the spatial frequency in 1/Å; B acts on
amplitudes as exp(-B s²/4). All factors are real, so no phase changes and no handedness.
"""

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from cryoready.density.flexibility import random_direction
from cryoready.density.gaussians import Array
from cryoready.density.spectrum import Frequencies

WAVELENGTH = 0.0197  # Å, of electrons at 300 kV
SPHERICAL_ABERRATION = 2.7e7  # Å
CONE_EDGE = 5.0  # degrees


@dataclass(frozen=True, eq=False)
class Transfer:
    """How the amplitudes of the signal fall.

    Parameters
    ----------
    b_factor
        Å², of everything.
    directional_b, direction
        Å² more along a unit vector (3,) zyx.
    cone, cone_loss
        degrees around ``direction`` (0: none) and share of the amplitude lost there.
    low_gain, low_b
        change of the low frequencies: 1 + gain × exp(-B s²/4). Negative: contrast lost to the
        solvent; positive: a hump.
    defocus, semi_angle
        Å and radian, of the envelope of spatial coherence.
    """

    b_factor: float
    directional_b: float
    direction: NDArray[np.float64]
    cone: float
    cone_loss: float
    low_gain: float
    low_b: float
    defocus: float
    semi_angle: float


def draw_transfer(rng: np.random.Generator, resolution: float) -> Transfer:
    """A plausible instrument for a map of ``resolution`` (Å)."""
    return Transfer(
        b_factor=rng.uniform(10, 60) * (resolution - 1.5),
        directional_b=rng.uniform(0, 60) * (resolution / 4) ** 2 * (rng.random() < 0.3),
        direction=random_direction(rng),
        cone=rng.uniform(10, 40) * (rng.random() < 0.15),
        cone_loss=rng.uniform(0.5, 1),
        low_gain=rng.uniform(-0.85, 0.25),
        low_b=rng.uniform(150, 1500),
        defocus=rng.uniform(0.5e4, 3e4),
        semi_angle=rng.uniform(0, 5e-5),
    )


def b_decay(frequencies: Frequencies, b_factor: float) -> Array:
    """exp(-B s²/4)."""
    return array_namespace(frequencies.radius).exp(-b_factor * frequencies.radius**2 / 4)


def directional_decay(
    frequencies: Frequencies, b_factor: float, direction: NDArray[np.float64]
) -> Array:
    """exp(-B (s·e)²/4): blur along the unit vector e only."""
    along = frequencies.along(direction)
    return array_namespace(along).exp(-b_factor * along**2 / 4)


def missing_cone(
    frequencies: Frequencies, half_angle: float, loss: float, direction: NDArray[np.float64]
) -> Array:
    """1 - ``loss`` within ``half_angle`` (degrees) of the unit vector, 1 outside, edges of 5°."""
    xp = array_namespace(frequencies.radius)
    cosine = xp.abs(frequencies.along(direction)) / xp.clip(frequencies.radius, 1e-6, None)
    angle = xp.acos(xp.clip(cosine, 0, 1)) * (180 / np.pi)
    inside = xp.clip((half_angle - angle) / CONE_EDGE + 0.5, 0, 1)
    return 1 - loss * inside * xp.astype(frequencies.radius > 0, inside.dtype)


def low_frequencies(frequencies: Frequencies, gain: float, b_factor: float) -> Array:
    """1 + gain × exp(-B s²/4), s below about 2/√B.

    A negative gain is Babinet's principle for a particle in solvent (Moews & Kretsinger 1975,
    doi 10.1016/0022-2836(75)90235-6).
    """
    return 1 + gain * b_decay(frequencies, b_factor)


def coherence_envelope(frequencies: Frequencies, defocus: float, semi_angle: float) -> Array:
    """exp(-(π α/λ)² (Cs λ³ s³ - Δf λ s)²): illumination that is not quite parallel, at 300 kV.

    ``defocus`` Δf in Å, ``semi_angle`` α in radian (Frank 1973; Penczek 2010,
    doi 10.1016/S0076-6879(10)82001-4).
    """
    xp = array_namespace(frequencies.radius)
    s = frequencies.radius
    slope = SPHERICAL_ABERRATION * WAVELENGTH**3 * s**3 - defocus * WAVELENGTH * s
    return xp.exp(-((np.pi * semi_angle / WAVELENGTH) ** 2) * slope**2)


def transfer(frequencies: Frequencies, how: Transfer) -> Array:
    """The product of all factors, (nz, ny, nx // 2 + 1)."""
    gain = b_decay(frequencies, how.b_factor)
    gain = gain * low_frequencies(frequencies, how.low_gain, how.low_b)
    gain = gain * coherence_envelope(frequencies, how.defocus, how.semi_angle)
    if how.directional_b:
        gain = gain * directional_decay(frequencies, how.directional_b, how.direction)
    if how.cone:
        gain = gain * missing_cone(frequencies, how.cone, how.cone_loss, how.direction)
    return gain
