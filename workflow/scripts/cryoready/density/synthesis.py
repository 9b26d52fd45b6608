"""Training pairs from atoms: signal, then noise, then the depositor.

The free shuffle of degradations of SCUNet (arXiv 2203.13278) would not be physical here: steps are
shuffled only within a class. Nothing mirrors, and only what changes the geometry (occupancy, the
dominant conformer) changes the target.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from array_api_compat import array_namespace, to_device
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from cryoready.density.atom_resolution import resolution_from_b_factor
from cryoready.density.degrade import Transfer, draw_transfer, transfer
from cryoready.density.depositor import Deposition, deposit, draw_deposition
from cryoready.density.flexibility import B_AT_REST, Flexibility, draw_flexibility, move
from cryoready.density.gaussians import Array, like, sum_of_gaussians
from cryoready.density.noise import Noise, Normal, draw_noise, half_maps
from cryoready.density.normalise import PERCENTILE
from cryoready.density.simulate import target_sigma
from cryoready.density.spectrum import Frequencies
from cryoready.density.surroundings import (
    Surroundings,
    draw_surroundings,
    glycans,
    particle_mask,
    surround,
)

RESOLUTIONS = (2.8, 6.0)  # Å, between which the resolution is drawn where none is given
REACH = 10.0  # Å around a box from which atoms matter
ZONE = 4.0  # Å around the particle: where the half-map FSC is that of the reconstruction


@dataclass(frozen=True, eq=False)
class Recipe:
    """All that is drawn for one map, in physical units.

    Parameters
    ----------
    resolution
        Å, reported.
    flexibility, surroundings, transfer
        what happens to the signal.
    noise
        of the half-maps.
    deposition
        what is done with the full map.
    map_share
        0-1: brightest density of this part relative to that of the whole map (1: a whole map).
    """

    resolution: float
    flexibility: Flexibility
    surroundings: Surroundings
    transfer: Transfer
    noise: Noise
    deposition: Deposition
    map_share: float


def draw_recipe(rng: np.random.Generator, resolution: float) -> Recipe:
    """A plausible deposited map of reported ``resolution`` (Å), of which a part is looked at."""
    flexibility = draw_flexibility(rng, resolution)
    signal = draw_transfer(rng, resolution)
    b_factor = B_AT_REST + flexibility.wave_b / 4 + signal.b_factor
    return Recipe(
        resolution=resolution,
        flexibility=flexibility,
        surroundings=draw_surroundings(rng),
        transfer=signal,
        noise=draw_noise(rng, resolution),
        deposition=draw_deposition(rng, resolution, b_factor),
        map_share=float(np.clip(1 - rng.exponential(0.08), 0.6, 1)),
    )


def random_view(coords: Array, rng: np.random.Generator, *, edge: float) -> tuple[Array, Array]:
    """A box of ``edge`` Å somewhere on a structure, in a random orientation.

    Parameters
    ----------
    coords
        (n, 3) zyx, Å, of the whole structure.
    rng
        seeded generator of place and orientation.
    edge
        Å, of the box.

    Returns
    -------
    (m, 3) coordinates turned and moved so that the box begins at 0, and (n,) bool which atoms these
    are: all within `REACH` of the box.
    """
    xp = array_namespace(coords)
    turn = xp.asarray(Rotation.random(random_state=rng).as_matrix(), **like(coords))
    centre = coords[int(rng.integers(coords.shape[0])), :]
    offset = xp.asarray(edge / 2 + rng.uniform(-0.25, 0.25, 3) * edge, **like(coords))
    seen = (coords - centre) @ turn.T + offset
    near = xp.all((seen > -REACH) & (seen < edge + REACH), axis=1)
    return seen[near], near


def synthesise(
    coords: Array,
    weight: Array,
    recipe: Recipe,
    rng: np.random.Generator,
    *,
    shape: tuple[int, int, int],
    spacing: float = 1.0,
    target_resolution: ArrayLike | Literal["local"] | None = None,
    normal: Normal | None = None,
) -> tuple[Array, Array]:
    """Map and target of one box or one whole structure.

    Filters are periodic, so leave about 8 voxels at every face of a box unused.

    Parameters
    ----------
    coords
        (n, 3) zyx, Å from the centre of voxel [0, 0, 0], floating point; atoms up to `REACH`
        outside the box matter too.
    weight
        (n,) electrons, Z × occupancy.
    recipe
        what happens to the map.
    rng
        seeded generator of what the recipe leaves open: noise, and places of glycans.
    shape, spacing
        (nz, ny, nx) and Å, of the grid.
    target_resolution
        Å, scalar or (n,) per atom (NumPy), of the target; None: that of the recipe; "local": at
        each atom what its B leaves of that (`resolution_from_b_factor`).
    normal
        draws standard normal values, shape -> array, in the library and on the device of
        ``coords``; None: from ``rng``.

    Returns
    -------
    map and target, (nz, ny, nx), 0-1, of the type of ``coords``.
    """
    xp = array_namespace(coords)
    normal = normal or _normal_like(coords, rng)
    (seen, seen_weight, b_factor), occupancy = move(coords, weight, recipe.flexibility)
    sigma = xp.sqrt(b_factor / (8 * np.pi**2))  # B = 8π² <u²>
    density = sum_of_gaussians(seen, seen_weight, sigma, shape=shape, spacing=spacing)
    if recipe.surroundings.glycans:
        density = density + glycans(coords, recipe.surroundings, rng, shape=shape, spacing=spacing)
    measured = measure(density, recipe, normal, spacing=spacing)

    resolution = recipe.resolution if target_resolution is None else target_resolution
    if isinstance(resolution, str):
        first = to_device(b_factor[: coords.shape[0]], "cpu")  # the dominant conformer
        blur = np.asarray(first) + recipe.transfer.b_factor
        resolution = resolution_from_b_factor(blur, recipe.resolution)
    width = xp.asarray(
        np.broadcast_to(target_sigma(resolution), (coords.shape[0],)), **like(coords)
    )
    target = sum_of_gaussians(coords, weight * occupancy, width, shape=shape, spacing=spacing)
    return _scaled(measured, recipe.map_share), _scaled(target, 1.0)


def measure(density: Array, recipe: Recipe, normal: Normal, *, spacing: float) -> Array:
    """The deposited map (nz, ny, nx) of a clean ``density`` (electrons per Å³)."""
    xp = array_namespace(density)
    frequencies = Frequencies.of(density, spacing)
    coefficients = xp.fft.rfftn(density)
    density = surround(density, coefficients, frequencies, recipe.surroundings, normal)
    coefficients = xp.fft.rfftn(density)
    occupied = float(xp.mean(particle_mask(coefficients, frequencies, ZONE, edge=0)))
    first, second = half_maps(
        coefficients * transfer(frequencies, recipe.transfer),
        frequencies,
        recipe.noise,
        normal,
        occupied=max(occupied, 0.02),
    )
    mask = None
    if (how := recipe.deposition).mask_radius:
        mask = particle_mask(coefficients, frequencies, how.mask_radius, edge=how.mask_edge)
        if not bool(xp.any(mask > 0)):  # a few atoms, blurred below the threshold
            mask = None
    return deposit((first + second) / 2, frequencies, how, recipe.noise, mask)


def _normal_like(array: Array, rng: np.random.Generator) -> Normal:
    """Standard normal values from ``rng`` in the library, type and device of ``array``."""
    xp = array_namespace(array)

    def normal(shape: tuple[int, ...]) -> Array:
        values = rng.standard_normal(shape, dtype=np.float32)
        return xp.asarray(values, **like(array))

    return normal


def _scaled(density: Array, share: float) -> Array:
    """0-1 as `normalise` does it; the percentile is ``share`` of that of the whole map.

    Zeros where nothing is positive.
    """
    xp = array_namespace(density)
    if not bool(xp.any(density > 0)):
        return xp.zeros_like(density)
    return xp.clip(density * (share / brightest(density)), 0, 1)


def brightest(density: Array) -> Array:
    """The percentile of `normalise.intensity_scale`, for arrays of any library.

    The k highest values lie among those not below the k-th highest maximum of the rows, so that few
    values need to be sorted.
    """
    xp = array_namespace(density)
    positive = max(int(xp.sum(xp.astype(density > 0, xp.int64))), 1)
    from_top = (positive - 1) * (1 - PERCENTILE / 100)
    k = int(from_top) + 2
    maxima = xp.sort(xp.reshape(xp.max(density, axis=-1), (-1,)))
    ranked = xp.sort(density[density >= maxima[-k]])
    upper, lower = ranked[-k + 1], ranked[-k]
    return upper + (lower - upper) * (from_top - int(from_top))
