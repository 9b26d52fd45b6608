"""Matrix products and scattered addition give the same density."""

import array_api_compat.numpy as xp
import numpy as np
import pytest
import torch

from cryoready.core.volume import Grid
from cryoready.density.gaussians import sum_of_gaussians
from cryoready.density.simulate import simulate_density


def atoms(n=300, extent=50.0, seed=0):
    rng = np.random.default_rng(seed)
    coords = rng.uniform(-5, extent, (n, 3)).astype(np.float32)
    weight = rng.uniform(1, 16, n).astype(np.float32)
    return coords, weight, rng.uniform(0.6, 1.4, n).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "spacing", "origin"),
    [
        ((40, 40, 40), 1.0, (0, 0, 0)),
        ((33, 64, 17), 1.0, (2.5, -3, 1)),
        ((9, 30, 35), 1.7, (0, 0, 0)),
    ],
)
def test_agrees_with_scattered_addition(shape, spacing, origin):
    coords, weight, sigma = atoms()
    grid = Grid(shape, np.full(3, spacing), np.array(origin, dtype=float))
    expected = simulate_density(coords.astype(float), weight, sigma, grid).data
    density = sum_of_gaussians(coords, weight, sigma, shape=shape, spacing=spacing, origin=origin)
    assert density.dtype == np.float32
    np.testing.assert_allclose(density, expected, atol=2e-4 * expected.max())


def test_tensors_give_what_arrays_give():
    columns = atoms()
    shape = (30, 34, 37)
    there = sum_of_gaussians(*(torch.from_numpy(c) for c in columns), shape=shape)
    assert isinstance(there, torch.Tensor)
    np.testing.assert_allclose(there.numpy(), sum_of_gaussians(*columns, shape=shape), atol=1e-5)


def test_one_atom_integrates_to_its_weight_and_peaks_where_it_lies():
    coords = np.array([[20.0, 15.0, 18.0]])
    density = sum_of_gaussians(coords, np.array([8.0]), np.array([1.2]), shape=(40, 40, 40))
    assert density.sum() == pytest.approx(8.0, rel=1e-6)
    assert density[20, 15, 18] == pytest.approx(8 / (2 * np.pi * 1.2**2) ** 1.5)
    assert np.unravel_index(density.argmax(), density.shape) == (20, 15, 18)


def test_no_atom_gives_no_density():
    nothing = xp.zeros((0, 3))
    density = sum_of_gaussians(nothing, nothing[:, 0], nothing[:, 0], shape=(8, 9, 10))
    np.testing.assert_array_equal(density, np.zeros((8, 9, 10)))
