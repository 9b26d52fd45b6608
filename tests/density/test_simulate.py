"""Simulated density against the closed form of a Gaussian."""

import numpy as np
import pytest

from cryoready.core.volume import Grid
from cryoready.density.simulate import simulate_density, target_sigma

GRID = Grid((30, 33, 36), np.array([1.0, 0.9, 1.1]), np.array([-4.0, 7.0, 100.0]))


def test_integral_is_the_weight():
    centre = np.array([[11.0, 22.0, 120.0], [9.7, 20.1, 121.3]])
    density = simulate_density(centre, np.array([6.0, 16.0]), 1.0, GRID)
    assert density.data.sum() * np.prod(GRID.voxel_size) == pytest.approx(22.0, rel=1e-3)


def test_profile_is_the_formula_of_the_paper():
    """ρ = θ Z exp(-k r²), k = (π/(1.2 + 0.6 R))², θ = (k/π)^1.5, voxel by voxel."""
    resolution, z, centre = 4.0, 8, np.array([10.3, 21.9, 119.2])
    k = (np.pi / (1.2 + 0.6 * resolution)) ** 2
    r2 = sum(
        ((GRID.axis(a) - centre[a]) ** 2).reshape([-1 if i == a else 1 for i in range(3)])
        for a in range(3)
    )
    expected = (k / np.pi) ** 1.5 * z * np.exp(-k * r2)
    got = simulate_density(centre[None], np.array([float(z)]), target_sigma(resolution), GRID)
    np.testing.assert_allclose(got.data, expected, atol=4e-4 * expected.max())


@pytest.mark.parametrize(("resolution", "sigma"), [(3, 0.68), (4, 0.81), (6, 1.08)])
def test_widths_of_the_paper(resolution, sigma):
    assert target_sigma(resolution) == pytest.approx(sigma, abs=0.005)


def test_target_is_never_softer_than_the_map_and_never_below_the_grid():
    resolutions = np.linspace(1, 6, 51)
    sigma = target_sigma(resolutions)
    assert (np.diff(sigma) >= 0).all()
    assert (sigma <= np.maximum(resolutions, 2.0) / (np.pi * np.sqrt(2)) + 1e-12).all()


def test_atoms_outside_contribute_only_their_tails():
    inside = simulate_density(np.array([[-5.5, 20.0, 120.0]]), np.ones(1), 1.0, GRID)
    share = inside.data.sum() * np.prod(GRID.voxel_size)  # of a normal distribution beyond 1 σ
    assert share == pytest.approx(0.159, abs=0.02)
    far = simulate_density(np.array([[-50.0, 20.0, 120.0]]), np.ones(1), 1.0, GRID)
    assert far.data.max() == 0


def test_per_atom_width_and_no_atoms():
    centres = np.array([[11.0, 22.0, 118.0], [11.0, 22.0, 128.0]])
    density = simulate_density(centres, np.ones(2), np.array([0.8, 1.6]), GRID).data
    near = [density[:, :, 10:24].max(), density[:, :, 24:].max()]
    assert near[0] / near[1] == pytest.approx((1.6 / 0.8) ** 3, rel=0.15)
    assert simulate_density(np.empty((0, 3)), np.empty(0), 1.0, GRID).data.max() == 0
