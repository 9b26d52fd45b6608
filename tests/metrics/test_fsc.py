"""Fourier shell correlation and what is read off it."""

import numpy as np
import pytest

from cryoready.core.volume import Grid
from cryoready.metrics.fsc import FscCurve, Shells, d99, fourier_shell_correlation

GRIDS = [
    Grid((40, 40, 40), 1.0, 0.0),
    Grid((41, 33, 37), 1.3, (3.0, -20.0, 0.5)),
    Grid((36, 45, 40), (1.0, 1.2, 0.9), 0.0),
]


@pytest.fixture(params=GRIDS, ids=["cubic", "odd", "anisotropic"])
def grid(request):
    return request.param


def noise(grid, seed=0):
    return np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32)


def low_passed(density, grid, b):
    """Coefficients times exp(-b s²/4), b in Å²."""
    axes = [np.fft.fftfreq(n, d) for n, d in zip(grid.shape, grid.voxel_size, strict=True)]
    s2 = sum(np.meshgrid(*(s**2 for s in axes), indexing="ij"))
    return np.fft.ifftn(np.fft.fftn(density) * np.exp(-b * s2 / 4)).real.astype(np.float32)


def fsc(first, second, grid):
    shells = Shells.of(grid)
    return fourier_shell_correlation(shells.pick(first), shells.pick(second), shells)


def test_one_of_each_friedel_pair(grid):
    """((N-1)//2 on either side of 0 on every axis, without 0 0 0, of which half are independent."""
    shells = Shells.of(grid)
    sides = [(n - 1) // 2 for n in grid.shape]
    assert len(shells.order) == (np.prod([2 * side + 1 for side in sides]) - 1) // 2
    index = np.stack(np.unravel_index(shells.order, (*grid.shape[:2], grid.shape[2] // 2 + 1)))
    h = np.stack([(i + n // 2) % n - n // 2 for i, n in zip(index, grid.shape, strict=True)], 1)
    assert (np.abs(h) <= sides).all()
    both = np.concatenate([h, -h])
    assert len(np.unique(both, axis=0)) == len(both)
    cell = grid.voxel_size * grid.shape
    np.testing.assert_allclose(shells.d, 1 / np.linalg.norm(h / cell, axis=1), rtol=1e-12)
    assert (np.diff(shells.d) >= 0).all()


def test_the_finest_reflection_is_at_the_corner():
    assert Shells.of(Grid((41, 41, 41), 1.0, 0.0)).d[0] == pytest.approx(41 / 20 / np.sqrt(3))


def test_bins(grid):
    """From fine to coarse: 500 reflections up to 5 Å, 250 up to 10 Å, else 100; one more where
    they span less than 0.005 Å; what is left at the end joins the last bin."""
    shells = Shells.of(grid)
    d, starts = shells.d, shells.starts
    counts = np.diff([*starts, len(d)])
    assert counts.sum() == len(d)
    for start, count in zip(starts[:-1], counts[:-1], strict=True):
        least = 500 if d[start] <= 5 else 250 if d[start] <= 10 else 100
        narrow = d[start + least - 1] - d[start] <= 0.005
        assert count == least + narrow
    assert counts[-1] >= 100
    values = np.random.default_rng(0).normal(size=len(d))
    expected = [chunk.sum() for chunk in np.split(values, starts[1:])]
    np.testing.assert_allclose(shells.sums(values), expected, atol=1e-9)


def test_abscissa_is_the_mean_spacing(grid):
    shells = Shells.of(grid)
    curve = fsc(noise(grid), noise(grid), grid)
    expected = [1 / part.mean() for part in np.split(shells.d, shells.starts[1:])]
    np.testing.assert_allclose(curve.frequency, expected[::-1], rtol=1e-9)
    assert (np.diff(curve.frequency) > 0).all()


def test_a_map_and_itself(grid):
    """1 everywhere, -1 when turned over, whatever scale and offset; no crossing."""
    density = noise(grid)
    same = fsc(density, 250 * density + 3, grid)
    np.testing.assert_allclose(same.correlation, 1, atol=1e-5)
    assert same.resolution(0.143) is None
    np.testing.assert_allclose(fsc(density, -density, grid).correlation, -1, atol=1e-5)


def test_an_empty_map_has_no_correlation(grid):
    empty = fsc(np.zeros(grid.shape, np.float32), noise(grid), grid)
    assert np.isnan(empty.correlation).all()
    assert empty.resolution(0.5) is None
    assert empty.mean_inside(1.0) is None


def test_order_does_not_matter(grid):
    a, b = low_passed(noise(grid), grid, 20), noise(grid, 1)
    np.testing.assert_allclose(fsc(a, b, grid).correlation, fsc(b, a, grid).correlation, atol=1e-6)


def test_unrelated_maps(grid):
    """Mean 0, and no bin beyond five standard errors, 1/√n."""
    curve = fsc(noise(grid), noise(grid, 1), grid)
    assert abs(curve.correlation.mean()) < 0.02
    assert np.abs(curve.correlation).max() < 5 / np.sqrt(100)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_white_noise_added(grid, ratio):
    """SNR/(1 + SNR) between two noisy maps, its root between one of them and the clean one."""
    clean = noise(grid)
    first, second = (clean + noise(grid, k) / np.sqrt(ratio) for k in (1, 2))
    expected = ratio / (1 + ratio)
    assert fsc(first, second, grid).correlation.mean() == pytest.approx(expected, abs=0.015)
    assert fsc(first, clean, grid).correlation.mean() == pytest.approx(expected**0.5, abs=0.015)


def test_resolution_of_a_blurred_map_in_noise():
    """Signal exp(-B s²/4), noise of power p: FSC² with the signal is 1/(1 + p exp(B s²/2)).

    It is 1/4 where exp(B s²/2) = 3/p. Half-maps cross 1/7 where it is 6/p.
    """
    grid = Grid((96, 97, 95), 1.0, 0.0)
    b, p = 40.0, 0.03
    clean = low_passed(noise(grid), grid, b)
    halves = [clean + np.sqrt(p) * noise(grid, k) for k in (1, 2)]
    expected = 1 / np.sqrt(2 / b * np.log(3 / p))
    assert fsc(halves[0], clean, grid).resolution(0.5) == pytest.approx(expected, abs=0.05)
    expected = 1 / np.sqrt(2 / b * np.log(6 / p))
    assert fsc(*halves, grid).resolution(1 / 7) == pytest.approx(expected, abs=0.05)


def test_a_shift_costs_phase():
    """By one voxel along z: cos(2π s_z Δ) averaged over a sphere, sinc(2sΔ)."""
    grid = Grid((64, 65, 63), 1.0, 0.0)
    density = noise(grid)
    curve = fsc(density, np.roll(density, 1, axis=0), grid)
    inside = curve.frequency < 0.45  # shells that are not cut by the faces of the box
    expected = np.sinc(2 * curve.frequency)[inside]
    np.testing.assert_allclose(curve.correlation[inside], expected, atol=0.06)


def test_smoothing_keeps_a_parabola_and_leaves_low_resolution_alone():
    """Savitzky-Golay of degree 2 over 21 bins; beyond 15 Å each bin stands for itself."""
    grid = Grid((80, 80, 80), 2.0, 0.0)
    shells = Shells.of(grid)
    a, b = (shells.pick(noise(grid, k)) for k in (0, 1))
    curve = fourier_shell_correlation(a, b, shells)
    cross = shells.sums((a * b.conj()).real)
    power = shells.sums(abs(a) ** 2) * shells.sums(abs(b) ** 2)
    raw = (cross / np.sqrt(power))[::-1]
    coarse = curve.frequency < 1 / 15.0
    assert coarse.sum() >= 3
    np.testing.assert_allclose(curve.correlation[coarse], raw[coarse], atol=1e-6)
    middle = len(raw) // 2
    steps = np.arange(-10, 11)
    fit = np.polynomial.Polynomial.fit(steps, raw[middle - 10 : middle + 11], 2)
    assert curve.correlation[middle] == pytest.approx(fit(0), abs=1e-6)


FREQUENCY = np.linspace(0.02, 0.6, 146)


@pytest.mark.parametrize("threshold", [0.5, 0.143])
def test_read_off_a_line_and_a_parabola(threshold):
    line = FscCurve(FREQUENCY, 1 - 2 * FREQUENCY)
    assert line.resolution(threshold) == pytest.approx(2 / (1 - threshold), abs=1e-6)
    parabola = FscCurve(FREQUENCY, 1 - 3 * FREQUENCY**2)
    assert parabola.resolution(threshold) == pytest.approx((3 / (1 - threshold)) ** 0.5, abs=1e-6)


def test_read_off_a_logistic_curve():
    """Not a parabola, but one through eleven of these bins is near enough."""
    curve = FscCurve(FREQUENCY, 1 / (1 + np.exp((FREQUENCY - 0.3) / 0.02)))
    assert curve.resolution(0.5) == pytest.approx(1 / 0.3, abs=0.003)


def test_the_first_crossing_counts():
    """A curve that falls, rises and falls again has its first resolution."""
    correlation = np.interp(FREQUENCY, [0, 0.2, 0.3, 0.4, 0.6], [1, 0.3, 0.3, 0.9, -0.5])
    assert FscCurve(FREQUENCY, correlation).resolution(0.5) == pytest.approx(7.0, abs=0.01)


def test_no_crossing():
    assert FscCurve(FREQUENCY, np.full(146, 0.2)).resolution(0.143) is None


def test_a_curve_below_from_the_start():
    """The quadratic has no crossing near: the first bin counts."""
    curve = FscCurve(FREQUENCY, np.full(146, 0.05))
    assert curve.resolution(0.143) == pytest.approx(1 / 0.02)


@pytest.mark.parametrize("bins", [1, 2, 3])
def test_too_few_bins_for_a_fit(bins):
    curve = FscCurve(FREQUENCY[:bins], np.linspace(0.9, 0.1, 4)[-bins:])
    below = np.flatnonzero(curve.correlation < 0.143)[0]
    assert curve.resolution(0.143) == pytest.approx(1 / FREQUENCY[below])


def test_mean_inside():
    curve = FscCurve(FREQUENCY, 1 - FREQUENCY)
    expected = 1 - FREQUENCY[FREQUENCY <= 0.25].mean()
    assert curve.mean_inside(4.0) == pytest.approx(expected)
    assert curve.mean_inside(100.0) is None


@pytest.mark.parametrize("limit", [3.0, 5.0])
def test_d99_of_a_band_limited_map(limit):
    """Power is even within a sphere of radius 1/d: (d/d99)³ = 0.99², to a step of 0.01 Å."""
    grid = Grid((101, 100, 99), 1.0, 0.0)
    shells = Shells.of(grid)
    white = shells.pick(noise(grid))
    band = np.where(shells.d >= limit, white, 0)
    expected = limit * 0.99 ** (-2 / 3)
    assert d99(band, shells) == pytest.approx(expected, abs=0.025)


def test_d99_does_not_depend_on_the_scale(grid):
    shells = Shells.of(grid)
    coefficients = shells.pick(low_passed(noise(grid), grid, 100))
    assert d99(coefficients * 1e-4, shells) == d99(coefficients, shells)


def test_a_curve_that_starts_below_has_no_crossing():
    """A model that fits nowhere: noise around 0 must not be read as a fine resolution."""
    rng = np.random.default_rng(4)
    frequency = np.linspace(0.05, 0.6, 40)
    for _ in range(200):
        curve = FscCurve(frequency, 0.02 * rng.standard_normal(40))
        for threshold in (0.5, 0.143):
            assert curve.resolution(threshold) == pytest.approx(20)


def test_a_crossing_is_never_read_far_from_its_bins():
    """One high first bin, then noise: the parabola of the bins around crosses 0.143 anywhere."""
    rng = np.random.default_rng(5)
    frequency = np.linspace(0.05, 0.6, 40)
    for _ in range(200):
        correlation = 0.02 * rng.standard_normal(40)
        correlation[0] = 0.9
        found = FscCurve(frequency, correlation).resolution(0.143)
        assert 1 / frequency[6] <= found <= 20
