"""Motion keeps handedness, adds up, and is where it is said to be."""

import numpy as np
import pytest
import torch

from cryoready.density.flexibility import (
    B_AT_REST,
    beyond_plane,
    draw_flexibility,
    exposure,
    move,
    partial_occupancy,
    random_direction,
    residue_b_factors,
    second_position,
    wave_b_factors,
)


@pytest.fixture(scope="module")
def ball():
    """Atoms of protein density in a ball of 22 Å, (n, 3) zyx, Å."""
    points = np.random.default_rng(0).uniform(-22, 22, (5000, 3))
    return points[np.linalg.norm(points, axis=1) < 22].astype(np.float32)


def test_wave_b_factors_are_bounded_and_smooth(ball):
    vector = np.array([0.03, -0.02, 0.01])
    b = wave_b_factors(ball, 80.0, vector, 1.0)
    assert b.min() >= 0
    assert b.max() <= 80
    near = wave_b_factors(ball + np.float32(0.5), 80.0, vector, 1.0)
    assert np.abs(near - b).max() < 80 / 2 * 0.04 * 0.9  # slope of the wave × step


def test_residue_b_factors_differ_between_neighbours_and_spare_most_atoms(ball):
    vectors = draw_flexibility(np.random.default_rng(1), 4.0).residue_vectors
    b = residue_b_factors(ball, 100.0, vectors)
    assert b.min() >= 0
    assert b.max() <= 100
    assert np.median(b) < 0.5 * b.max()
    shifted = residue_b_factors(ball + np.float32(5), 100.0, vectors)
    assert np.corrcoef(b, shifted)[0, 1] < 0.5  # a side chain away


def test_exposure_grows_from_the_core_to_the_surface(ball):
    bare = exposure(ball)
    radius = np.linalg.norm(ball, axis=1)
    assert bare[radius < 8].mean() < 0.2
    assert bare[radius > 21].mean() > 0.7
    assert bare.min() >= 0
    assert bare.max() <= 1


@pytest.mark.parametrize("share", [0.15, 0.5])
def test_a_domain_has_its_share_and_lies_on_one_side(ball, share):
    normal = random_direction(np.random.default_rng(2))
    domain = beyond_plane(ball, normal, share)
    assert domain.mean() == pytest.approx(share, abs=0.002)
    height = ball @ normal
    assert height[domain].min() >= height[~domain].max() - 1e-5


def test_the_second_position_is_a_proper_rotation(ball):
    normal = np.array([0.0, 0.0, 1.0])
    domain = beyond_plane(ball, normal, 0.3)
    turned = second_position(ball, domain, normal, np.array([0.0, 0.1, 0.0]), np.zeros(3))
    before, after = (points[:30] - points[:30].mean(axis=0) for points in (ball[domain], turned))
    np.testing.assert_allclose(
        np.linalg.norm(before[:, None] - before, axis=2),
        np.linalg.norm(after[:, None] - after, axis=2),
        atol=1e-3,
    )
    fit = np.linalg.lstsq(before, after, rcond=None)[0]
    assert np.linalg.det(fit) == pytest.approx(1, abs=1e-3)
    angle = np.degrees(np.arccos((np.trace(fit) - 1) / 2))
    assert angle == pytest.approx(np.degrees(0.1), rel=1e-2)
    moved = np.linalg.norm(turned - ball[domain], axis=1)
    height = (ball @ normal)[domain]
    assert moved[height < np.quantile(height, 0.1)].mean() < moved[height > 18].mean()  # a hinge


def test_occupancy_is_partial_within_the_radius_only(ball):
    occupancy = partial_occupancy(ball, 0.4, 8.0, 0.25)
    distance = np.linalg.norm(ball - ball[int(0.25 * (len(ball) - 1))], axis=1)
    np.testing.assert_allclose(occupancy, np.where(distance < 8, 0.4, 1.0))


def changed(how, **changes):
    return type(how)(**{**vars(how), **changes})


def still():
    """Nothing moves."""
    how = draw_flexibility(np.random.default_rng(3), 4.0)
    none = {"wave_b": 0.0, "residue_b": 0.0, "surface_b": 0.0, "domain_b": 0.0}
    return changed(how, **none, second_occupancy=0.0, dropped_occupancy=1.0)


def test_what_does_not_move_stays(ball):
    weight = np.full(len(ball), 6.0, dtype=np.float32)
    (coords, seen, b), occupancy = move(ball, weight, still())
    np.testing.assert_array_equal(coords, ball)
    np.testing.assert_array_equal(seen, weight)
    np.testing.assert_allclose(b, B_AT_REST)
    np.testing.assert_array_equal(occupancy, 1)


def test_two_conformers_hold_the_electrons_of_one_and_the_target_is_the_dominant(ball):
    weight = np.full(len(ball), 6.0, dtype=np.float32)
    how = changed(still(), second_occupancy=0.3, domain_share=0.4)
    (coords, seen, b), occupancy = move(ball, weight, how)
    assert len(coords) == len(seen) == len(b) == pytest.approx(1.4 * len(ball), rel=0.01)
    assert seen.sum() == pytest.approx(weight.sum(), rel=1e-5)
    np.testing.assert_array_equal(coords[: len(ball)], ball)
    np.testing.assert_array_equal(occupancy, 1)


def test_the_target_follows_the_occupancy(ball):
    weight = np.full(len(ball), 6.0, dtype=np.float32)
    (_, seen, _), occupancy = move(ball, weight, changed(still(), dropped_occupancy=0.5))
    assert occupancy.min() == 0.5
    np.testing.assert_allclose(seen, weight * occupancy)


def test_tensors_give_what_arrays_give(ball):
    weight = np.full(len(ball), 6.0, dtype=np.float32)
    how = changed(draw_flexibility(np.random.default_rng(9), 4.0), second_occupancy=0.2)
    here, _ = move(ball, weight, how)
    there, _ = move(torch.from_numpy(ball), torch.from_numpy(weight), how)
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(b.numpy(), a, rtol=2e-3, atol=2e-2)
