"""The noise that was asked for is the noise that is measured."""

import numpy as np
import pytest
import torch
from scipy import fft

from cryoready.density.gaussians import sum_of_gaussians
from cryoready.density.noise import Noise, draw_noise, growing, half_map_fsc, half_maps
from cryoready.density.spectrum import Frequencies

SHAPE = (72, 72, 72)
EVEN = Noise(resolution=4.0, fsc_slope=0.02, ramp=0.0, centre=np.zeros(3))


@pytest.fixture(scope="module")
def particle():
    """Random atoms that fill the whole box: the occupied share is 1."""
    coords = np.random.default_rng(0).uniform(0, 72, (6000, 3)).astype(np.float32)
    columns = np.full(6000, 6, dtype=np.float32), np.full(6000, 0.8, dtype=np.float32)
    return sum_of_gaussians(coords, *columns, shape=SHAPE)


@pytest.fixture(scope="module")
def frequencies(particle):
    return Frequencies.of(particle, 1.0)


def normal(seed):
    rng = np.random.default_rng(seed)
    return lambda shape: rng.standard_normal(shape, dtype=np.float32)


def shell_correlation(f, g, frequencies):
    power_f, power_g, cross = (
        frequencies.shell_means(v) for v in (np.abs(f) ** 2, np.abs(g) ** 2, (f * g.conj()).real)
    )
    return cross / np.sqrt(power_f * power_g)


def test_half_map_fsc_crosses_0143_at_the_resolution():
    for resolution in (3.0, 4.2, 6.0):
        at = half_map_fsc(np.array([1 / resolution]), resolution, 0.03)
        assert at[0] == pytest.approx(0.143, abs=1e-6)


@pytest.mark.parametrize(("resolution", "slope"), [(4.0, 0.02), (3.0, 0.035), (6.0, 0.012)])
def test_the_half_maps_have_the_fsc_that_was_asked_for(particle, frequencies, resolution, slope):
    how = Noise(resolution, slope, 0.0, np.zeros(3))
    pair = half_maps(fft.rfftn(particle), frequencies, how, normal(1), occupied=1.0)
    s = (np.arange(63) + 0.5) * frequencies.shell_width
    inside = (s > 1 / 20) & (s < 1 / resolution)
    measured = shell_correlation(*pair, frequencies)[: len(s)]
    np.testing.assert_allclose(
        measured[inside], half_map_fsc(s, resolution, slope)[inside], atol=0.06
    )


def test_the_full_map_agrees_with_the_truth_as_c_ref_says(particle, frequencies):
    """FSC(full map, truth) = √(SSNR/(1 + SSNR)), SSNR = 2 FSC/(1 - FSC)."""
    truth = fft.rfftn(particle)
    first, second = half_maps(truth, frequencies, EVEN, normal(2), occupied=1.0)
    measured = shell_correlation((first + second) / 2, truth, frequencies)[4:18]
    fsc = half_map_fsc((np.arange(4, 18) + 0.5) * frequencies.shell_width, 4.0, 0.02)
    ssnr = 2 * fsc / (1 - fsc)
    np.testing.assert_allclose(measured, np.sqrt(ssnr / (1 + ssnr)), atol=0.05)


def test_the_noise_of_the_halves_is_independent(particle, frequencies):
    truth = fft.rfftn(particle)
    first, second = half_maps(truth, frequencies, EVEN, normal(3), occupied=1.0)
    a, b = (frequencies.to_density(half - truth) for half in (first, second))
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.03
    assert a.std() == pytest.approx(b.std(), rel=0.03)


def test_less_occupied_boxes_have_more_noise(particle, frequencies):
    """The noise fills the box, the signal only a share of it: the SSNR is that of the particle."""
    truth = fft.rfftn(particle)
    full, quarter = (
        half_maps(truth, frequencies, EVEN, normal(1), occupied=share)[0] - truth
        for share in (1.0, 0.25)
    )
    np.testing.assert_allclose(np.abs(quarter), 2 * np.abs(full), rtol=1e-3, atol=0.1)


def test_noise_stays_beyond_the_resolution(particle, frequencies):
    truth = fft.rfftn(particle)
    noise = half_maps(truth, frequencies, EVEN, normal(5), occupied=1.0)[0] - truth
    power = frequencies.shell_means(np.abs(noise) ** 2)
    np.testing.assert_allclose(power[20:36], power[20:36].mean(), rtol=0.1)


def test_noise_grows_away_from_the_centre(frequencies):
    how = Noise(4.0, 0.02, 0.02, np.array([0.0, 0.0, 20.0]))
    gain = growing(frequencies, how)
    assert np.mean(gain**2) == pytest.approx(1, rel=1e-4)
    middle = gain[35:37, 35:37, 55:57].mean()
    assert gain[36, 36, 5] / middle == pytest.approx(1 + 0.02 * 50.5, rel=0.02)


def test_tensors_give_what_arrays_give(particle, frequencies):
    how = draw_noise(np.random.default_rng(0), 4.0)
    here = half_maps(fft.rfftn(particle), frequencies, how, normal(6), occupied=0.4)[1]
    tensor = torch.from_numpy(particle)
    draw = normal(6)
    there = half_maps(
        torch.fft.rfftn(tensor),
        Frequencies.of(tensor, 1.0),
        how,
        lambda shape: torch.from_numpy(draw(shape)),
        occupied=0.4,
    )[1]
    np.testing.assert_allclose(there.numpy(), here, atol=1e-3 * np.abs(here).std())
