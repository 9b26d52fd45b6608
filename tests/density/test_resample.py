"""A density keeps its place in space, whatever the grids."""

import tracemalloc

import numpy as np
import pytest

from cryoready.core.volume import Grid, Volume
from cryoready.density.resample import axis_operator, resample, spaced_grid
from cryoready.density.simulate import simulate_density

SHAPES = [(40, 40, 40), (41, 47, 36), (64, 39, 51)]
VOXELS = [(0.6, 0.6, 0.6), (0.97, 0.97, 0.97), (1.05, 1.05, 1.05), (1.3, 1.1, 1.7), (2.0, 2.0, 2.0)]


def gaussian(grid, sigma):
    """One Gaussian at an odd place near the middle of ``grid``."""
    middle = np.array([grid.axis(k).mean() for k in range(3)])
    centre = middle + np.array([0.13, -0.37, 0.29])
    return simulate_density(centre[None], np.ones(1), sigma, grid), centre


def centroid(volume):
    total = volume.data.sum()
    others = [(1, 2), (0, 2), (0, 1)]
    return [
        (volume.data.sum(axis=o) * volume.grid.axis(k)).sum() / total for k, o in enumerate(others)
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("voxel", VOXELS)
def test_a_gaussian_keeps_its_place_there_and_back(shape, voxel):
    grid = Grid(shape, np.array(voxel), np.array([3.3, -57.1, 11.9]))
    volume, centre = gaussian(grid, sigma=1.8 * max(1.0, *voxel) / 1.3)
    there = resample(volume, spaced_grid(grid, 1.0))
    np.testing.assert_allclose(there.voxel_size, 1.0, rtol=0, atol=0)
    np.testing.assert_allclose(centroid(there), centre, rtol=0, atol=0.01)
    back = resample(there, grid)
    np.testing.assert_allclose(centroid(back), centre, rtol=0, atol=0.01)


@pytest.mark.parametrize("voxel", VOXELS)
def test_values_agree_with_the_same_density_computed_on_the_target(voxel):
    grid = Grid((44, 45, 46), np.array(voxel), np.zeros(3))
    volume, centre = gaussian(grid, sigma=2.5)
    there = resample(volume, spaced_grid(grid, 1.0))
    exact = simulate_density(centre[None], np.ones(1), 2.5, there.grid)
    assert np.abs(there.data - exact.data).max() < 0.02 * exact.data.max()


def test_the_unit_grid_covers_the_map():
    grid = Grid((10, 11, 12), np.full(3, 1.32), np.array([5.0, 6.0, 7.0]))
    target = spaced_grid(grid, 1.0)
    for k in range(3):
        assert target.axis(k)[0] == grid.axis(k)[0]
        assert grid.axis(k)[-1] - 1e-9 <= target.axis(k)[-1] < grid.axis(k)[-1] + 1


def test_a_minimum_size_surrounds_the_map():
    grid = Grid((10, 80, 59), np.ones(3), np.zeros(3))
    target = spaced_grid(grid, 1.0, minimum_voxels=60)
    assert target.shape == (60, 80, 60)
    np.testing.assert_allclose(target.origin, [-25, 0, 0])
    volume = resample(Volume.on(grid, np.ones(grid.shape, dtype=np.float32)), target)
    assert volume.data[:24].max() == 0
    np.testing.assert_allclose(volume.data[25:35, :, :59], 1, atol=1e-6)


def test_coarsening_removes_what_the_coarse_grid_cannot_hold():
    """A wave of 1.4 Å would come back as one of 3.5 Å on a 1 Å grid."""
    grid = Grid((8, 8, 200), np.full(3, 0.5), np.zeros(3))
    wave = np.cos(2 * np.pi * grid.axis(2) / 1.4)
    data = np.broadcast_to(wave, grid.shape).astype(np.float32)
    coarse = resample(Volume.on(grid, data), spaced_grid(grid, 1.0))
    assert np.abs(coarse.data[:, :, 20:80]).max() < 0.02


def test_same_grid_is_exact():
    data = np.random.default_rng(1).normal(size=(9, 8, 7)).astype(np.float32)
    volume = Volume(data, np.ones(3), np.zeros(3))
    np.testing.assert_array_equal(resample(volume, spaced_grid(volume.grid, 1.0)).data, data)


@pytest.mark.parametrize("shape", [(1, 5, 6), (2, 3, 9)])
def test_axes_of_few_voxels_work(shape):
    volume = Volume(np.ones(shape, dtype=np.float32), np.full(3, 1.1), np.zeros(3))
    there = resample(volume, spaced_grid(volume.grid, 1.0))
    assert np.isfinite(there.data).all()


def test_the_error_of_the_spline_on_a_wave_is_as_documented():
    grid = Grid((8, 8, 120), np.ones(3), np.zeros(3))
    target = Grid((8, 8, 400), np.array([1.0, 1.0, 0.3]), np.zeros(3))

    def wave(axis):
        return np.sin(2 * np.pi * 0.2 * axis)  # 0.4 of the Nyquist frequency of 0.5

    data = np.broadcast_to(wave(grid.axis(2)), grid.shape).astype(np.float32)
    error = resample(Volume.on(grid, data), target).data - wave(target.axis(2))
    assert 0.005 < np.abs(error[:, :, 40:350]).max() < 0.011


def test_the_same_grid_shares_the_data():
    volume = Volume(np.ones((5, 6, 7), dtype=np.float32), np.ones(3), np.zeros(3))
    assert resample(volume, volume.grid).data is volume.data


@pytest.mark.parametrize("changed", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("spacing", [0.7, 1.6])
def test_every_axis_alone_is_its_matrix(changed, spacing):
    grid = Grid((20, 23, 26), np.ones(3), np.array([1.0, 2.0, 3.0]))
    there = spaced_grid(grid, spacing)
    shape = [there.shape[k] if k in changed else grid.shape[k] for k in range(3)]
    voxel = np.where(np.isin(range(3), changed), spacing, 1.0)
    target = Grid(tuple(shape), voxel, grid.origin)
    data = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    operators = [axis_operator(grid.axis(k), target.axis(k)) for k in range(3)]
    expected = np.einsum("zc,yb,xa,cba->zyx", *operators, data, optimize=True)
    found = resample(Volume.on(grid, data), target)
    np.testing.assert_allclose(found.data, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spacing", [0.8, 1.25])
def test_memory_is_the_result_and_one_array(spacing):
    volume = Volume(np.ones((100, 100, 100), dtype=np.float32), np.ones(3), np.zeros(3))
    target = spaced_grid(volume.grid, spacing)
    tracemalloc.start()
    result = resample(volume, target)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.15 * (result.data.nbytes + max(result.data.nbytes, volume.data.nbytes))
