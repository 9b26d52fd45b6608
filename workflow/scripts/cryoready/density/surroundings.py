"""Density that no model explains: detergent and lipid belts, glycans, neighbours.

Arrays are NumPy's or tensors on any device; densities in electrons per Å³.
"""

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray
from scipy.special import ndtr

from cryoready.density.degrade import b_decay
from cryoready.density.flexibility import exposure, random_direction
from cryoready.density.gaussians import Array, like, sum_of_gaussians
from cryoready.density.noise import Normal
from cryoready.density.spectrum import Frequencies

PARTICLE_DENSITY = 0.4  # of protein without hydrogens: 6.7 electrons in 17 Å³ for an atom


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What surrounds the modelled particle.

    Parameters
    ----------
    belt_level, belt_thickness, belt_offset, belt_normal
        density relative to the particle's (0: none), Å, Å from the centre of the box along the
        unit vector (3,): a slab of detergent or lipid.
    glycans, glycan_sigma, glycan_electrons
        number of blobs at the surface, their width (Å) and integral.
    neighbour_level, neighbour_shift
        density relative to the particle's (0: none) and (3,) voxels: a shifted copy.
    resolution
        Å, of belt and neighbour.
    """

    belt_level: float
    belt_thickness: float
    belt_offset: float
    belt_normal: NDArray[np.float64]
    glycans: int
    glycan_sigma: float
    glycan_electrons: float
    neighbour_level: float
    neighbour_shift: tuple[int, int, int]
    resolution: float


def draw_surroundings(rng: np.random.Generator) -> Surroundings:
    """Mostly nothing; else one of the three, rarely more."""
    dz, dy, dx = (int(n) for n in rng.integers(16, 48, 3))
    return Surroundings(
        belt_level=rng.uniform(0.2, 0.7) * (rng.random() < 0.1),
        belt_thickness=rng.uniform(25, 45),
        belt_offset=rng.uniform(-20, 20),
        belt_normal=random_direction(rng),
        glycans=int(rng.integers(1, 4)) * int(rng.random() < 0.2),
        glycan_sigma=rng.uniform(2.5, 4.5),
        glycan_electrons=rng.uniform(80, 350),
        neighbour_level=rng.uniform(0.2, 0.8) * (rng.random() < 0.15),
        neighbour_shift=(dz, dy, dx),
        resolution=rng.uniform(8, 15),
    )


def gaussian_lowpass(frequencies: Frequencies, resolution: float) -> Array:
    """exp(-ln 2 (s d)²): half of the amplitude at 1/``resolution``."""
    return b_decay(frequencies, 4 * float(np.log(2)) * resolution**2)


def blur(frequencies: Frequencies, sigma: float) -> Array:
    """exp(-2π² σ² s²): a Gaussian of width ``sigma`` (Å)."""
    return b_decay(frequencies, 8 * np.pi**2 * sigma**2)


def particle_mask(
    coefficients: Array, frequencies: Frequencies, radius: float, *, edge: float
) -> Array:
    """The particle and ``radius`` Å around it: 1 inside, falling to 0 over ``edge`` Å.

    As masks are made from maps: blur, threshold, soften. On a plane surface a blur of width σ
    leaves Φ(-r/σ) of the particle's density at the distance r.

    Parameters
    ----------
    coefficients
        (`rfftn`) of the density in electrons per Å³.
    frequencies
        of ``coefficients``.
    radius
        Å from the surface to the middle of the edge.
    edge
        Å; 0: hard.
    """
    xp = array_namespace(coefficients)
    sigma = max(3.0, radius / 2)
    blurred = frequencies.to_density(coefficients * blur(frequencies, sigma))
    inside = blurred > PARTICLE_DENSITY * float(ndtr(-radius / sigma))
    hard = xp.astype(inside, blurred.dtype)
    if edge == 0:
        return hard
    soft = frequencies.to_density(xp.fft.rfftn(hard) * blur(frequencies, edge / 4))
    return xp.clip(soft, 0, 1)


def belt(frequencies: Frequencies, how: Surroundings, normal: Normal) -> Array:
    """A slab of lumpy density across the box, (nz, ny, nx), before the particle displaces it."""
    xp = array_namespace(frequencies.radius)
    height = sum(
        float(e) * axis for e, axis in zip(how.belt_normal, frequencies.positions, strict=True)
    )
    inside = xp.abs(height - how.belt_offset) < how.belt_thickness / 2
    lumps = 1 + 2 * normal(frequencies.shape)
    return how.belt_level * PARTICLE_DENSITY * xp.where(inside, lumps, xp.zeros_like(lumps))


def glycans(
    coords: Array,
    how: Surroundings,
    rng: np.random.Generator,
    *,
    shape: tuple[int, int, int],
    spacing: float,
) -> Array:
    """Wide blobs beside the most exposed of some random atoms, (nz, ny, nx)."""
    xp = array_namespace(coords)
    candidates = xp.asarray(
        rng.integers(coords.shape[0], size=20 * how.glycans), device=device(coords)
    )
    bare = xp.take(exposure(coords), candidates)
    chosen = xp.take(candidates, xp.argsort(bare)[-how.glycans :])
    away = np.stack([random_direction(rng) for _ in range(how.glycans)]) * 5.0
    return sum_of_gaussians(
        xp.take(coords, chosen, axis=0) + xp.asarray(away, **like(coords)),
        xp.full(how.glycans, how.glycan_electrons, **like(coords)),
        xp.full(how.glycans, how.glycan_sigma, **like(coords)),
        shape=shape,
        spacing=spacing,
    )


def surround(
    density: Array,
    coefficients: Array,
    frequencies: Frequencies,
    how: Surroundings,
    normal: Normal,
) -> Array:
    """``density`` with belt and neighbour where the particle leaves room, (nz, ny, nx)."""
    xp = array_namespace(density)
    if how.belt_level == 0 and how.neighbour_level == 0:
        return density
    room = 1 - particle_mask(coefficients, frequencies, 1.5, edge=4)
    extra = xp.zeros_like(density)
    if how.belt_level:
        extra = extra + belt(frequencies, how, normal)
    if how.neighbour_level:
        extra = extra + how.neighbour_level * xp.roll(density, how.neighbour_shift, axis=(0, 1, 2))
    smooth = xp.fft.rfftn(extra) * gaussian_lowpass(frequencies, how.resolution)
    return density + room * frequencies.to_density(smooth)
