"""What depositors do, step by step."""

import numpy as np
import pytest
import torch
from scipy import fft

from cryoready.density.degrade import b_decay
from cryoready.density.depositor import (
    Deposition,
    deposit,
    draw_deposition,
    fsc_weight,
    lowpass,
    quantise,
    regrid,
    sharpen,
)
from cryoready.density.gaussians import sum_of_gaussians
from cryoready.density.noise import Noise
from cryoready.density.spectrum import Frequencies

NOISE = Noise(resolution=4.0, fsc_slope=0.02, ramp=0.0, centre=np.zeros(3))
NOTHING = Deposition(
    sharpening=0,
    fsc_weighting=False,
    lowpass=0,
    mask_radius=0,
    mask_edge=0,
    clip=False,
    voxel_size=1.0,
    shift=np.zeros(3),
    quantisation="float32",
    order=("filter", "mask", "clip", "regrid"),
)


def but(**changes):
    return Deposition(**{**vars(NOTHING), **changes})


@pytest.fixture(scope="module")
def density():
    """A smooth density of zero mean, (40, 41, 44)."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(6, 36, (400, 3)).astype(np.float32)
    width = np.full(400, 1.3, dtype=np.float32)
    values = sum_of_gaussians(coords, 6 + 0 * width, width, shape=(40, 41, 44))
    return values - values.mean()


@pytest.fixture(scope="module")
def frequencies(density):
    return Frequencies.of(density, 1.0)


def test_sharpening_undoes_the_b_factor_up_to_the_resolution(frequencies):
    product = sharpen(frequencies, 150.0, 4.0) * b_decay(frequencies, 150.0)
    inside = frequencies.radius < 0.25
    np.testing.assert_allclose(product[inside], 1, rtol=1e-5)
    beyond = sharpen(frequencies, 150.0, 4.0)[~inside]
    np.testing.assert_allclose(beyond, np.exp(150 / 16 / 4), rtol=1e-5)


def test_fsc_weight_at_the_resolution(frequencies):
    """At FSC = 0.143, C_ref = √(2 · 0.143/1.143) = 0.5."""
    weight = fsc_weight(frequencies, NOISE)
    assert weight[10, 0, 0] == pytest.approx(0.5, abs=2e-3)  # s = 10/40
    assert weight[0, 0, 0] == pytest.approx(1, abs=1e-3)


def test_lowpass_halves_the_amplitude_at_its_resolution(frequencies):
    gain = lowpass(frequencies, 5.0)
    assert gain[8, 0, 0] == pytest.approx(0.5)  # s = 8/40
    assert gain[4, 0, 0] > 0.9999
    assert gain[16, 0, 0] < 1e-4


@pytest.mark.parametrize(("kind", "levels"), [("int8", 256), ("int16", 65536)])
def test_integers_hold_so_many_levels(density, kind, levels):
    stored = quantise(density, kind)
    step = (density.max() - density.min()) / (levels - 1)
    assert len(np.unique(stored)) <= levels
    assert np.abs(stored - density).max() <= 0.51 * step + 1e-7
    assert stored.min() == density.min()


def test_half_floats_keep_eleven_bits(density):
    large = np.abs(density) > 0.01 * np.abs(density).max()
    error = np.abs(quantise(density, "float16") / density - 1)[large]
    assert 0 < error.max() < 2.0**-11 * 1.01
    np.testing.assert_array_equal(quantise(density, "float32"), density)


@pytest.mark.parametrize("kind", ["float32", "float16", "int16", "int8"])
@pytest.mark.parametrize("value", [0.0, -0.3])
def test_a_constant_is_stored_exactly(kind, value):
    density = np.full((4, 5, 6), value, dtype=np.float32)
    np.testing.assert_array_equal(quantise(density, kind), density)


@pytest.mark.parametrize("voxel_size", [0.5, 0.83, 1.0, 1.6])
def test_a_wave_survives_another_grid_in_place(voxel_size):
    """A wave of 8 Å is what every such grid holds: neither moved nor weakened by more than 2 %."""
    wave = np.cos(2 * np.pi * np.arange(64, dtype=np.float32) / 8)
    density = np.broadcast_to(wave, (20, 24, 64)).copy()
    back = regrid(density, 1.0, voxel_size, np.array([0.3, -0.4, 0.45]))
    inner = (slice(6, -6), slice(6, -6), slice(14, -14))
    np.testing.assert_allclose(back[inner], density[inner], atol=0.02)


def test_a_coarse_grid_loses_what_it_cannot_hold():
    wave = np.cos(2 * np.pi * np.arange(60, dtype=np.float32) / 2.5)
    density = np.broadcast_to(wave, (60, 60, 60)).copy()
    back = regrid(density, 1.0, 1.6, np.zeros(3))  # Nyquist: 3.2 Å
    assert back[20:-20, 20:-20, 20:-20].std() < 0.1 * density.std()


def test_nothing_done_is_the_map_itself(density, frequencies):
    out = deposit(fft.rfftn(density), frequencies, NOTHING, NOISE, None)
    np.testing.assert_allclose(out, density, atol=1e-5 * density.max())


def test_clipping_leaves_no_negative_value(density, frequencies):
    out = deposit(fft.rfftn(density), frequencies, but(clip=True), NOISE, None)
    np.testing.assert_allclose(out, np.clip(density, 0, None), atol=1e-5 * density.max())


def test_a_mask_after_the_filter_leaves_exact_zeros_and_before_it_does_not(density, frequencies):
    mask = np.zeros(density.shape, dtype=np.float32)
    mask[10:30, 10:30, 10:30] = 1
    f = fft.rfftn(density)
    outside = mask == 0
    last = but(lowpass=8.0, mask_radius=5.0, order=("regrid", "filter", "mask", "clip"))
    first = but(lowpass=8.0, mask_radius=5.0, order=("regrid", "mask", "filter", "clip"))
    assert not deposit(f, frequencies, last, NOISE, mask)[outside].any()
    assert deposit(f, frequencies, first, NOISE, mask)[outside].any()


def test_linear_steps_commute_with_scale(density, frequencies):
    how = but(sharpening=80.0, fsc_weighting=True, lowpass=4.0, voxel_size=0.9)
    f = fft.rfftn(density)
    once, twice = (deposit(k * f, frequencies, how, NOISE, None) for k in (1, 2))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-3, atol=1e-4)


def test_tensors_give_what_arrays_give(density, frequencies):
    how = but(sharpening=80.0, lowpass=4.0, voxel_size=0.9, quantisation="int16", clip=True)
    here = deposit(fft.rfftn(density), frequencies, how, NOISE, None)
    tensor = torch.from_numpy(density)
    there = deposit(torch.fft.rfftn(tensor), Frequencies.of(tensor, 1.0), how, NOISE, None)
    np.testing.assert_allclose(there.numpy(), here, atol=1e-3 * here.max())


def test_draws_stay_within_what_depositors_do():
    for seed in range(50):
        how = draw_deposition(np.random.default_rng(seed), 4.0, 120.0)
        assert how.sharpening == 0 or 20 <= how.sharpening <= 300
        assert how.lowpass == 0 or 2 <= how.lowpass <= 4.4
        assert 0.5 <= how.voxel_size <= 1.6
        assert sorted(how.order) == ["clip", "filter", "mask", "regrid"]
