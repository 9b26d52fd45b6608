"""Intensities and display levels."""

import tracemalloc

import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.density.contour import default_contour, matching_contour
from cryoready.density.normalise import intensity_scale, normalise


def test_scale_is_the_percentile_of_positive_voxels_only():
    rng = np.random.default_rng(0)
    positive = rng.uniform(0, 1, 200_000).astype(np.float32)
    density = np.concatenate([positive, -5 * np.ones(500_000, dtype=np.float32)])
    assert intensity_scale(density) == pytest.approx(np.percentile(positive, 99.999), rel=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 100_001, 250_000])
def test_scale_of_few_and_of_many_positive_voxels(n):
    positive = np.random.default_rng(n).gamma(1, size=n).astype(np.float32)
    density = np.zeros((2, 3, n), dtype=np.float32)
    density[1, 2] = positive
    assert intensity_scale(density) == pytest.approx(np.percentile(positive, 99.999), rel=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 740.0])
def test_normalised_density_does_not_depend_on_the_unit(factor):
    density = np.random.default_rng(1).normal(size=10_000).astype(np.float32)
    scaled = density * np.float32(factor)
    np.testing.assert_allclose(
        normalise(scaled, intensity_scale(scaled)),
        normalise(density, intensity_scale(density)),
        atol=1e-5,
    )


def test_normalise_clips_and_leaves_its_argument_alone():
    density = np.array([-3, 0, 1, 2, 8], dtype=np.float32)
    before = density.copy()
    np.testing.assert_allclose(normalise(density, 4.0), [0, 0, 0.25, 0.5, 1])
    intensity_scale(density)
    np.testing.assert_array_equal(density, before)


def test_nothing_positive_is_an_error():
    with pytest.raises(CryoreadyError, match="contrast inverted"):
        intensity_scale(np.full(10, -1, dtype=np.float32))


def test_matching_contour_encloses_the_same_number_of_voxels():
    rng = np.random.default_rng(2)
    before = rng.normal(size=(20, 21, 22)).astype(np.float32)
    after = (rng.gamma(2, size=before.shape) * 20).astype(np.float32)
    level = matching_contour(before, 1.3, after)
    assert (after >= level).sum() == (before >= 1.3).sum()


def test_matching_contour_of_a_monotonous_change_is_that_change():
    before = np.random.default_rng(3).uniform(0, 1, (15, 15, 15)).astype(np.float32)
    level = np.sort(before.ravel())[-100]
    assert matching_contour(before, level, before**2) == pytest.approx(level**2, rel=1e-6)


def test_a_contour_above_everything_matches_the_maximum():
    before = np.zeros((4, 4, 4), dtype=np.float32)
    assert matching_contour(before, 1.0, before + 3) == 3


def test_default_contour_is_three_sigma_above_the_mean():
    density = np.random.default_rng(4).normal(5, 2, 100_000).astype(np.float32)
    assert default_contour(density) == pytest.approx(5 + 3 * 2, abs=0.05)


def test_default_contour_of_a_small_contrast_on_a_large_constant():
    density = (1000 + np.random.default_rng(5).normal(0, 0.5, (40, 41, 42))).astype(np.float32)
    expected = density.mean(dtype=np.float64) + 3 * density.std(dtype=np.float64)
    assert default_contour(density) == pytest.approx(expected, rel=1e-9)


def test_levels_need_little_memory():
    density = np.random.default_rng(6).normal(size=(160, 160, 160)).astype(np.float32)
    tracemalloc.start()
    intensity_scale(density)
    default_contour(density)
    matching_contour(density, 2.0, density)
    _, peak = tracemalloc.get_traced_memory()
    assert peak < 1.1 * density.nbytes
    tracemalloc.reset_peak()
    normalise(density, 1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.1 * density.nbytes
