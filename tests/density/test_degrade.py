"""The physics of the instrument, measured on densities."""

import numpy as np
import pytest
from scipy import fft

from cryoready.density.degrade import (
    Transfer,
    b_decay,
    coherence_envelope,
    directional_decay,
    draw_transfer,
    low_frequencies,
    missing_cone,
    transfer,
)
from cryoready.density.gaussians import sum_of_gaussians
from cryoready.density.spectrum import Frequencies

SHAPE = (48, 50, 45)
X = np.array([0.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def particle():
    """Random atoms that fill the whole box."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 50, (3000, 3)).astype(np.float32)
    columns = np.full(3000, 6, dtype=np.float32), np.full(3000, 0.8, dtype=np.float32)
    return sum_of_gaussians(coords, *columns, shape=SHAPE)


@pytest.fixture(scope="module")
def frequencies(particle):
    return Frequencies.of(particle, 1.0)


def filtered(density, frequencies, gain):
    return frequencies.to_density(fft.rfftn(density) * gain)


@pytest.mark.parametrize("b_factor", [-60.0, 120.0])
def test_b_factor_is_the_slope_of_the_wilson_plot(particle, frequencies, b_factor):
    """ln(|F_B|²/|F|²) = -B s²/2 for amplitudes that fall as exp(-B s²/4)."""
    blurred = filtered(particle, frequencies, b_decay(frequencies, b_factor))

    fit = slice(4, 14)  # 1/12.5 to 1/3.6 1/Å

    def log_power(density):
        return np.log(frequencies.shell_means(np.abs(fft.rfftn(density)) ** 2)[fit])

    s = (np.arange(4, 14) + 0.5) * frequencies.shell_width
    slope = np.polyfit(s**2, log_power(blurred) - log_power(particle), 1)[0]
    assert -2 * slope == pytest.approx(b_factor, rel=0.02)


def test_b_factor_widens_a_gaussian_atom(frequencies):
    """B = 8π² <u²>: an atom of σ 0.9 Å with 100 Å² is an atom of σ √(0.81 + 100/8π²) Å."""
    centre = np.array([[24.0, 25.0, 22.0]], dtype=np.float32)
    one = np.ones(1, dtype=np.float32)
    sharp = sum_of_gaussians(centre, one, 0.9 * one, shape=SHAPE)
    wide = sum_of_gaussians(centre, one, np.sqrt(0.81 + 100 / (8 * np.pi**2)) * one, shape=SHAPE)
    blurred = filtered(sharp, frequencies, b_decay(frequencies, 100.0))
    np.testing.assert_allclose(blurred, wide, atol=1e-3 * wide.max())


def test_directional_b_blurs_one_direction_only(frequencies):
    waves = np.zeros((2, *SHAPE), dtype=np.float32)
    waves[0] += np.cos(2 * np.pi * 9 * np.arange(45) / 45)  # along x, period 5 Å
    waves[1] += np.cos(2 * np.pi * 10 * np.arange(50) / 50)[:, None]  # along y, period 5 Å
    gain = directional_decay(frequencies, 80.0, X)
    along, across = (filtered(wave, frequencies, gain).std() / wave.std() for wave in waves)
    assert along == pytest.approx(np.exp(-80 / 25 / 4), rel=1e-4)
    assert across == pytest.approx(1, rel=1e-4)


def test_isotropic_b_is_three_directional_ones(frequencies):
    z, y, x = (directional_decay(frequencies, 50.0, axis) for axis in np.eye(3))
    np.testing.assert_allclose(z * y * x, b_decay(frequencies, 50.0), rtol=1e-4)


def test_missing_cone_takes_its_share_of_the_sphere(frequencies):
    """Two cones of half angle θ hold 1 - cos θ of all directions."""
    lost = 1 - missing_cone(frequencies, 30.0, 0.7, X)
    sphere = (frequencies.radius > 0.2) & (frequencies.radius < 0.45)
    doubled = np.where(frequencies.axes[2] > 0, 2.0, 1.0) * sphere  # rfftn holds one half
    share = (lost * doubled).sum() / (0.7 * doubled.sum())
    assert share == pytest.approx(1 - np.cos(np.radians(30)), rel=0.03)
    assert lost[0, 0, 10] == pytest.approx(0.7)
    assert lost[10, 0, 0] == 0
    assert lost[0, 0, 0] == 0  # the mean stays


def test_low_frequencies_change_and_high_ones_do_not(frequencies):
    gain = low_frequencies(frequencies, -0.6, 1000.0)
    assert gain[0, 0, 0] == pytest.approx(0.4)
    np.testing.assert_allclose(gain[frequencies.radius > 0.2], 1, atol=1e-4)


def test_coherence_envelope_at_one_frequency(frequencies):
    """300 kV, 2 µm, 0.05 mrad, 5 Å: path difference Δf λ s - Cs λ³ s³ = 78.8 - 1.65 Å."""
    envelope = coherence_envelope(frequencies, 2e4, 5e-5)
    expected = np.exp(-((np.pi * 5e-5 / 0.0197 * (78.8 - 1.651)) ** 2))
    assert envelope[0, 10, 0] == pytest.approx(expected, rel=1e-3)  # s = 10/50
    np.testing.assert_array_equal(coherence_envelope(frequencies, 2e4, 0.0), 1)


def test_a_perfect_instrument_changes_nothing(frequencies):
    perfect = Transfer(0, 0, X, 0, 0, 0, 100, 1e4, 0)
    np.testing.assert_array_equal(transfer(frequencies, perfect), 1)


def test_no_factor_moves_density(particle, frequencies):
    """Real, centrosymmetric factors commute with inversion: nothing is shifted or mirrored."""
    gain = transfer(frequencies, draw_transfer(np.random.default_rng(4), 4.0))

    def inverted(density):
        return np.roll(density[::-1, ::-1, ::-1], 1, axis=(0, 1, 2))

    there = filtered(inverted(particle), frequencies, gain)
    np.testing.assert_allclose(
        there, inverted(filtered(particle, frequencies, gain)), atol=1e-4 * particle.max()
    )


def test_draws_repeat_by_seed():
    first, second, other = (draw_transfer(np.random.default_rng(s), 4.0) for s in (7, 7, 8))
    assert first.b_factor == second.b_factor != other.b_factor
    np.testing.assert_array_equal(first.direction, second.direction)
