"""The physics of the simulated degradation, measured on what it returns."""

import numpy as np
import pytest
from scipy import fft

from cryoready.core.fourier import frequency_radius, shell_index
from cryoready.core.volume import Grid, Volume
from cryoready.density.degrade import (
    Degradation,
    degrade,
    draw_degradation,
    empty_region,
    fill_solvent,
    half_map_fsc,
    local_b_factors,
)
from cryoready.density.simulate import simulate_density

GRID = Grid((72, 72, 72), np.ones(3), np.zeros(3))
PLAIN = Degradation(
    resolution=4.0, b_factor=0, sharpening=0, fsc_slope=0.02, fsc_weighting=False, lowpass=0
)


@pytest.fixture(scope="module")
def particle():
    """Random atoms that fill the whole box: the occupied share is 1."""
    coords = np.random.default_rng(0).uniform(0, 72, (6000, 3))
    return simulate_density(coords, np.full(6000, 6.0), 0.6, GRID)


def shells():
    radius = frequency_radius(GRID.shape, GRID.voxel_size)
    index = shell_index(radius, 1 / 72)
    return radius, index, np.bincount(index.ravel(), radius.ravel()) / np.bincount(index.ravel())


def correlation(a, b):
    """FSC of two volumes by shells of 1/72 1/Å."""
    _, index, _ = shells()
    f, g = fft.rfftn(a.data), fft.rfftn(b.data)

    def total(values):
        return np.bincount(index.ravel(), values.ravel())

    cross = total((f * g.conj()).real)
    return cross / np.sqrt(total(np.abs(f) ** 2) * total(np.abs(g) ** 2))


def test_half_map_fsc_crosses_0143_at_the_resolution():
    for resolution in (3.0, 4.2, 6.0):
        at = half_map_fsc(np.array([1 / resolution], dtype=np.float32), resolution, 0.03)
        assert at[0] == pytest.approx(0.143, abs=1e-4)


def test_two_degraded_maps_agree_as_the_requested_fsc_demands(particle):
    """FSC of two full maps with independent noise is SSNR/(1 + SSNR), SSNR = 2 FSC/(1 - FSC)."""
    first, second = (
        degrade(particle, PLAIN, np.random.default_rng(seed), occupied=1.0) for seed in (1, 2)
    )
    _, _, s = shells()
    fsc = half_map_fsc(s.astype(np.float32), PLAIN.resolution, PLAIN.fsc_slope)
    ssnr = 2 * fsc / (1 - fsc)
    inner = slice(4, int(72 / 3.2))
    measured = correlation(first, second)[inner]
    np.testing.assert_allclose(measured, (ssnr / (1 + ssnr))[inner], atol=0.06)


def test_b_factor_is_the_slope_of_the_wilson_plot(particle):
    """ln(|F_B|²/|F|²) = -B s²/2 for amplitudes that fall as exp(-B s²/4)."""
    how = Degradation(4.0, 120.0, 0, 0.02, False, 0)
    radius, index, s = shells()
    blurred = degrade(particle, how, np.random.default_rng(0), occupied=1e9)  # hardly any noise

    def power(volume):
        return np.bincount(index.ravel(), (np.abs(fft.rfftn(volume.data)) ** 2).ravel())

    fit = slice(3, int(72 / 4.5))
    slope = np.polyfit(s[fit] ** 2, np.log(power(blurred) / power(particle))[fit], 1)[0]
    assert -2 * slope == pytest.approx(120, rel=0.03)
    assert radius.max() > s[fit].max()


def test_sharpening_undoes_the_b_factor_up_to_the_resolution(particle):
    how = Degradation(4.0, 100.0, 100.0, 0.02, False, 0)
    restored = degrade(particle, how, np.random.default_rng(0), occupied=1e9)
    agreement = correlation(restored, particle)
    assert agreement[1 : 72 // 4].min() > 0.99


def test_less_occupied_boxes_have_more_noise(particle):
    """The noise fills the box, the signal only a share of it: the SSNR is that of the particle."""
    rng = np.random.default_rng
    noise = [
        (degrade(particle, PLAIN, rng(1), occupied=o).data - particle.data).std()
        for o in (1.0, 0.25)
    ]
    assert noise[1] / noise[0] == pytest.approx(2, rel=0.02)


def test_lowpass_removes_what_is_finer(particle):
    how = Degradation(3.0, 0, 0, 0.02, False, 6.0)
    filtered = degrade(particle, how, np.random.default_rng(0), occupied=1.0)
    radius, _, _ = shells()
    power = np.abs(fft.rfftn(filtered.data)) ** 2
    assert power[radius > 1 / 4].sum() < 1e-3 * power[radius > 0].sum()


def test_draws_are_reproducible_and_near_the_resolution():
    first, second = (draw_degradation(np.random.default_rng(7), 4.0) for _ in range(2))
    assert first == second
    assert 3.0 <= first.resolution <= 4.2
    assert draw_degradation(np.random.default_rng(8), 4.0) != first


def test_local_b_factors_are_bounded_and_smooth():
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 100, (2000, 3))
    b = local_b_factors(coords, np.random.default_rng(1), 80.0)
    assert b.min() >= 0
    assert b.max() <= 80
    near = local_b_factors(coords + 0.5, np.random.default_rng(1), 80.0)
    assert np.abs(near - b).max() < 6


def test_solvent_fills_only_what_was_masked():
    data = np.zeros((40, 40, 40), dtype=np.float32)
    data[10:30, 10:30, 10:30] = np.random.default_rng(0).uniform(1, 2, (20, 20, 20))
    volume = Volume(data, np.ones(3), np.zeros(3))
    empty = empty_region(volume.data)
    assert empty.sum() == 40**3 - 20**3
    rng = np.random.default_rng(3)
    filled = fill_solvent(volume, empty, sigma=0.3, resolution=4.0, rng=rng)
    outside = np.ones_like(empty)
    outside[8:32, 8:32, 8:32] = False
    assert filled.data[outside].std() == pytest.approx(0.3, rel=0.1)
    np.testing.assert_array_equal(filled.data[16:24, 16:24, 16:24], data[16:24, 16:24, 16:24])


def test_a_map_without_a_mask_has_no_empty_region():
    noise = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    assert not empty_region(noise).any()
