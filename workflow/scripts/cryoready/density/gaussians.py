"""A sum of Gaussians on a grid as matrix products: NumPy arrays or tensors, on any device."""

import math
from itertools import product
from typing import Any

from array_api_compat import array_namespace, device

Array = Any  # an array of any library that follows the array API (data-apis.org/array-api)

BRICK_VOXELS = 32  # edge of the pieces of the grid that are summed one by one
CUTOFF_SIGMAS = 4.0  # of the widest atom: 3e-4 of its peak


def like(array: Array) -> dict[str, Any]:
    """``dtype`` and ``device`` of ``array``, for the functions that make arrays."""
    return {"dtype": array.dtype, "device": device(array)}


def sum_of_gaussians(
    coords: Array,
    weight: Array,
    sigma: Array,
    *,
    shape: tuple[int, int, int],
    spacing: float = 1.0,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Array:
    """ρ(x) = Σ wᵢ (2πσᵢ²)^-1.5 exp(-|x - rᵢ|²/2σᵢ²), `simulate.simulate_density` for any library.

    A Gaussian is the product of its three profiles, so a brick of the grid is one matrix product
    (z profiles)ᵀ · (y ⊗ x profiles) over the atoms that reach it. No scattered addition: the sum is
    the same in every run, on the GPU too.

    Parameters
    ----------
    coords
        (n, 3) zyx, Å, floating point.
    weight, sigma
        (n,) integral and width (Å) of each atom.
    shape, spacing, origin
        (nz, ny, nx), Å, Å: the grid; voxel [0, 0, 0] is centred on ``origin``.

    Returns
    -------
    (nz, ny, nx) in units of the weight per Å³, of the type of ``coords``.
    """
    xp = array_namespace(coords)
    density = xp.zeros(shape, **like(coords))
    if coords.shape[0] == 0:
        return density
    coords = coords - xp.asarray(origin, **like(coords))
    reach = CUTOFF_SIGMAS * float(xp.max(sigma))
    for corner in product(*(range(0, n, BRICK_VOXELS) for n in shape)):
        ends = [min(start + BRICK_VOXELS, n) for start, n in zip(corner, shape, strict=True)]
        low, high = (xp.asarray(edge, **like(coords)) * spacing for edge in (corner, ends))
        near = xp.all((coords > low - reach) & (coords < high + reach), axis=1)
        there, width = coords[near], sigma[near]
        z, y, x = (
            _profiles(there[:, k], width, spacing * xp.arange(corner[k], ends[k], **like(coords)))
            for k in range(3)
        )
        planes = xp.reshape(y[:, :, None] * x[:, None, :], (z.shape[0], y.shape[1] * x.shape[1]))
        brick = xp.matmul((z * weight[near][:, None]).T, planes)
        place = tuple(slice(start, end) for start, end in zip(corner, ends, strict=True))
        density[place] = xp.reshape(brick, (z.shape[1], y.shape[1], x.shape[1]))
    return density


def _profiles(coordinate: Array, sigma: Array, axis: Array) -> Array:
    """Normalised Gaussian of each atom at the points of ``axis``, (n, points), 1/Å."""
    xp = array_namespace(coordinate)
    distance = (axis[None, :] - coordinate[:, None]) / sigma[:, None]
    return xp.exp(-0.5 * distance**2) / (math.sqrt(2 * math.pi) * sigma[:, None])
