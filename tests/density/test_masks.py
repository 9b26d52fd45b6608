"""Masks against geometry that can be worked out by hand."""

import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Grid, Volume
from cryoready.density.masks import mask_from_atoms, mask_from_contour, soften

GRID = Grid((30, 31, 32), np.array([1.0, 0.8, 1.2]), np.array([10.0, 20.0, 30.0]))


def distances(point):
    return np.sqrt(
        sum(
            (GRID.axis(k).reshape([-1 if i == k else 1 for i in range(3)]) - point[k]) ** 2
            for k in range(3)
        )
    )


def test_an_atom_is_surrounded_by_its_sphere():
    point = np.array([25.2, 31.1, 47.7])
    np.testing.assert_array_equal(mask_from_atoms(point[None], GRID, 5.0), distances(point) <= 5.0)


def test_two_atoms_give_the_union():
    points = np.array([[20.0, 30.0, 40.0], [28.0, 33.0, 55.0]])
    union = (distances(points[0]) <= 4) | (distances(points[1]) <= 4)
    np.testing.assert_array_equal(mask_from_atoms(points, GRID, 4.0), union)


def test_a_model_elsewhere_is_an_error_that_says_where():
    with pytest.raises(CryoreadyError, match=r"no voxel lies within 3 Å.*fit the model"):
        mask_from_atoms(np.array([[500.0, 0.0, 0.0]]), GRID, 3.0)


def test_soft_edge_is_a_half_cosine_of_the_distance_in_angstrom():
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[:10] = True
    soft = soften(mask, GRID.voxel_size, edge=4.0)
    np.testing.assert_allclose(soft[:10], 1)
    np.testing.assert_allclose(soft[9 + 2, 0, 0], 0.5, atol=1e-6)
    np.testing.assert_allclose(soft[9 + 1, 0, 0], 0.5 + 0.5 * np.cos(np.pi / 4), atol=1e-6)
    assert soft[14:].max() == 0
    across = np.zeros(GRID.shape, dtype=bool)
    across[:, :10] = True
    assert soften(across, GRID.voxel_size, edge=4.0)[0, 9 + 5, 0] == 0  # 5 voxels of 0.8 Å


def test_hard_edge_is_the_mask_itself():
    mask = np.random.default_rng(0).random(GRID.shape) > 0.5
    np.testing.assert_array_equal(soften(mask, GRID.voxel_size, edge=0), mask)


def test_contour_selects_voxels_at_or_above_it():
    data = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    volume = Volume(data, np.ones(3), np.zeros(3))
    assert mask_from_contour(volume, 20).sum() == 7
    for wrong in (-1.0, 27.0):
        with pytest.raises(CryoreadyError, match="runs from 0 to 26"):
            mask_from_contour(volume, wrong)
