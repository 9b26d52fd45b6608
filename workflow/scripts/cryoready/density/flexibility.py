"""What motion does to atoms: local B factors, a second conformer, missing occupancy.

Arrays are NumPy's or tensors on any device; scalars are drawn with a NumPy generator.
"""

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoready.density.gaussians import Array, like, sum_of_gaussians

B_AT_REST = 40.0  # Å²: σ = 0.71 Å, the narrowest that a grid of 1 Å holds
EXPOSURE_SIGMA = 5.0  # Å, of the density that tells the core from the surface


@dataclass(frozen=True, eq=False)
class Flexibility:
    """Motion within a particle.

    Parameters
    ----------
    wave_b, wave_vector, wave_phase
        Å², (3,) radian/Å, radian: a smooth field of B, 0 … ``wave_b``.
    residue_b, residue_vectors
        Å², (m, 3) radian/Å: short waves, up to ``residue_b`` more from residue to residue.
    surface_b
        Å², more at the surface than in the core.
    domain_normal, domain_share
        (3,) unit vector and share of the atoms: the domain beyond a plane.
    domain_b
        Å², more in that domain.
    second_occupancy
        0-0.5, of a second position of the domain (0: none).
    second_rotation, second_shift
        (3,) rotation vector in radian about the hinge, and (3,) Å, of the second position.
    dropped_occupancy, dropped_radius, dropped_at
        occupancy of the atoms within a radius (Å) of one atom, given by its rank 0-1.
    """

    wave_b: float
    wave_vector: NDArray[np.float64]
    wave_phase: float
    residue_b: float
    residue_vectors: NDArray[np.float64]
    surface_b: float
    domain_normal: NDArray[np.float64]
    domain_share: float
    domain_b: float
    second_occupancy: float
    second_rotation: NDArray[np.float64]
    second_shift: NDArray[np.float64]
    dropped_occupancy: float
    dropped_radius: float
    dropped_at: float


def draw_flexibility(rng: np.random.Generator, resolution: float) -> Flexibility:
    """Motion that fits a map of ``resolution`` (Å): what is blurred more, moves more."""
    scale = (resolution / 4) ** 2
    return Flexibility(
        wave_b=scale * rng.exponential(80),
        wave_vector=rng.normal(size=3) / 30.0,  # features of about 2π·30/√3 ≈ 100 Å
        wave_phase=rng.uniform(0, 2 * np.pi),
        residue_b=scale * rng.uniform(20, 250),
        residue_vectors=_residue_vectors(rng),
        surface_b=scale * rng.uniform(0, 100),
        domain_normal=random_direction(rng),
        domain_share=rng.uniform(0.15, 0.5),
        domain_b=scale * rng.uniform(0, 200) * (rng.random() < 0.3),
        second_occupancy=rng.uniform(0.1, 0.4) * (rng.random() < 0.15),
        second_rotation=random_direction(rng) * np.radians(rng.uniform(1, 6)),
        second_shift=random_direction(rng) * rng.uniform(0, 2),
        dropped_occupancy=rng.uniform(0.3, 0.8) if rng.random() < 0.15 else 1.0,
        dropped_radius=rng.uniform(5, 15),
        dropped_at=rng.random(),
    )


def random_direction(rng: np.random.Generator) -> NDArray[np.float64]:
    """A unit vector, (3,), uniform on the sphere."""
    direction = rng.normal(size=3)
    return np.asarray(direction / np.linalg.norm(direction))


def _residue_vectors(rng: np.random.Generator) -> NDArray[np.float64]:
    """Wave vectors (6, 3), radian/Å, of wavelengths 6-20 Å."""
    lengths = 2 * np.pi / rng.uniform(6, 20, 6)
    return np.stack([length * random_direction(rng) for length in lengths])


def wave_b_factors(
    coords: Array, largest: float, wave_vector: NDArray[np.float64], phase: float
) -> Array:
    """A smooth field of B (Å², 0 … ``largest``) at the atoms ((n, 3) Å)."""
    xp = array_namespace(coords)
    angle = coords @ xp.asarray(wave_vector, **like(coords)) + phase
    return largest * (0.5 + 0.5 * xp.sin(angle))


def residue_b_factors(coords: Array, largest: float, wave_vectors: NDArray[np.float64]) -> Array:
    """B (Å², 0 … ``largest``) that differs between neighbouring side chains, at the atoms (n, 3) Å.

    The square of a sum of waves: most atoms are little affected, a few much.
    """
    xp = array_namespace(coords)
    waves = xp.mean(xp.sin(coords @ xp.asarray(wave_vectors, **like(coords)).T), axis=1)
    return largest * xp.clip(2 * waves, -1, 1) ** 2


def exposure(coords: Array) -> Array:
    """How near to the surface each atom is, (n,): 0 in the core, 1 on a plane surface and beyond.

    From the density of atoms, of whatever element, blurred by `EXPOSURE_SIGMA`: at a plane surface
    it falls to half of its value in the core.
    """
    xp = array_namespace(coords)
    low, high = xp.min(coords, axis=0), xp.max(coords, axis=0)
    spacing = EXPOSURE_SIGMA
    nz, ny, nx = (int(n) + 2 for n in (high - low) / spacing)
    one = xp.ones_like(coords[:, 0])
    blurred = sum_of_gaussians(
        coords - low,
        one,
        EXPOSURE_SIGMA * one,
        shape=(nz, ny, nx),
        spacing=spacing,
    )
    z, y, x = (xp.astype(xp.round((coords - low)[:, k] / spacing), xp.int64) for k in range(3))
    there = xp.take(xp.reshape(blurred, (-1,)), (z * ny + y) * nx + x)
    return xp.clip(2 * (1 - there / xp.max(there)), 0, 1)


def beyond_plane(coords: Array, normal: NDArray[np.float64], share: float) -> Array:
    """(n,) bool: the ``share`` of the atoms that lies farthest along ``normal``."""
    xp = array_namespace(coords)
    height = coords @ xp.asarray(normal, **like(coords))
    ranked = xp.sort(height)
    return height > ranked[int((1 - share) * (coords.shape[0] - 1))]


def second_position(
    coords: Array,
    domain: Array,
    normal: NDArray[np.float64],
    rotation: NDArray[np.float64],
    shift: NDArray[np.float64],
) -> Array:
    """The atoms of ``domain`` turned by the rotation vector (radian) about its hinge, and shifted.

    The hinge is the point of the domain's boundary plane under its centroid. A proper rotation:
    handedness stays.
    """
    xp = array_namespace(coords)
    moving = coords[domain]
    normal_here = xp.asarray(normal, **like(coords))
    height = moving @ normal_here
    hinge = xp.mean(moving, axis=0) - (xp.mean(height) - xp.min(height)) * normal_here
    turn = xp.asarray(Rotation.from_rotvec(rotation).as_matrix(), **like(coords))
    return (moving - hinge) @ turn.T + hinge + xp.asarray(shift, **like(coords))


def partial_occupancy(coords: Array, occupancy: float, radius: float, at: float) -> Array:
    """(n,) ``occupancy`` within ``radius`` (Å) of the atom of rank ``at`` (0-1), 1 elsewhere."""
    xp = array_namespace(coords)
    centre = coords[int(at * (coords.shape[0] - 1)), :]
    near = xp.sum((coords - centre) ** 2, axis=1) < radius**2
    return xp.where(near, xp.full_like(coords[:, 0], occupancy), xp.ones_like(coords[:, 0]))


def move(
    coords: Array, weight: Array, how: Flexibility
) -> tuple[tuple[Array, Array, Array], Array]:
    """Atoms as the map sees them, and the occupancy of the atoms that were given.

    Parameters
    ----------
    coords, weight
        (n, 3) zyx, Å, and (n,).
    how
        the motion.

    Returns
    -------
    (coords, weight, b_factor) of n atoms or more (the second conformer), and (n,) the occupancy
    that the target follows: that of the dominant conformer is whole.
    """
    xp = array_namespace(coords)
    occupancy = partial_occupancy(coords, how.dropped_occupancy, how.dropped_radius, how.dropped_at)
    domain = beyond_plane(coords, how.domain_normal, how.domain_share)
    b_factor = (
        B_AT_REST
        + wave_b_factors(coords, how.wave_b, how.wave_vector, how.wave_phase)
        + residue_b_factors(coords, how.residue_b, how.residue_vectors)
        + how.surface_b * exposure(coords)
        + how.domain_b * xp.astype(domain, coords.dtype)
    )
    weight = weight * occupancy
    if how.second_occupancy == 0 or not bool(xp.any(domain)):
        return (coords, weight, b_factor), occupancy
    second = second_position(
        coords, domain, how.domain_normal, how.second_rotation, how.second_shift
    )
    first_weight = xp.where(domain, (1 - how.second_occupancy) * weight, weight)
    seen = (
        xp.concat([coords, second]),
        xp.concat([first_weight, how.second_occupancy * weight[domain]]),
        xp.concat([b_factor, b_factor[domain]]),
    )
    return seen, occupancy
