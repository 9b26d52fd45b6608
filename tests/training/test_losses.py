"""The losses against their formulas."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal.windows import gaussian, tukey
from torch import Tensor

from cryoready.core.volume import Grid
from cryoready.metrics.fsc import Shells, fourier_shell_correlation
from cryoready.training.losses import LOSSES, ssim, total_loss, zone_of

EVERY = pytest.mark.parametrize("name", LOSSES)
SHAPES = pytest.mark.parametrize("shape", [(12, 12, 12), (11, 11, 11), (9, 12, 14)])


def boxes(seed, n=3, shape=(12, 12, 12), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, 1, *shape), generator=generator, dtype=dtype)


def loss(name: str, x: Tensor, y: Tensor, zone: Tensor | None = None, beta: float = 1.0) -> Tensor:
    masked = "" if zone is None else "masked_"
    return total_loss(x, y, {masked + name: 1.0}, beta=beta, zone=zone)


def faded(density: np.ndarray) -> np.ndarray:
    """A box less its mean under a Tukey window, times the window; from the definition."""
    z, y, x = (tukey(n) for n in density.shape)
    window = z[:, None, None] * y[:, None] * x
    return (density - np.average(density, weights=window)) * window


@EVERY
@SHAPES
def test_identical_boxes_cost_nothing(name, shape):
    x = boxes(0, shape=shape)
    assert float(loss(name, x, x)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["ssim", "windowed_ssim", "fourier_shell"])
def test_inverted_contrast_costs_two(name):
    x = boxes(0)
    assert float(loss(name, 1 - x, x)) == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("name", ["ssim", "windowed_ssim", "fourier_shell"])
def test_a_density_added_everywhere_costs_nothing(name):
    x = boxes(0)
    assert float(loss(name, x + 50, x)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
@pytest.mark.parametrize("name", ["ssim", "windowed_ssim"])
def test_a_change_of_contrast_alone_gives_2f_over_1_plus_f_squared(name, factor):
    x = boxes(1)
    expected = 1 - 2 * factor / (1 + factor**2)
    assert float(loss(name, factor * x, x)) == pytest.approx(expected, rel=1e-3)


def test_smooth_l1_and_ssim_in_numpy():
    x, y = boxes(2), boxes(3)
    terms = []
    for a, b in zip(x.numpy().reshape(3, -1), y.numpy().reshape(3, -1), strict=True):
        covariance = ((a - a.mean()) * (b - b.mean())).mean()
        terms.append((2 * covariance + 1e-6) / (a.var() + b.var() + 1e-6))
    d = np.abs((x - y).numpy())
    smooth = np.where(d < 0.3, 0.5 * d**2 / 0.3, d - 0.15).mean()
    expected = 2.0 * smooth + 0.5 * (1 - np.mean(terms))
    got = float(total_loss(x, y, {"smooth_l1": 2.0, "ssim": 0.5}, beta=0.3))
    assert got == pytest.approx(expected, rel=1e-4)


@SHAPES
def test_windowed_ssim_agrees_with_gaussian_filters_of_scipy(shape):
    x, y = boxes(4, n=1, shape=shape), boxes(5, n=1, shape=shape)
    a, b = x[0, 0].double().numpy(), y[0, 0].double().numpy()

    def local(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, radius=3)[3:-3, 3:-3, 3:-3]

    covariance = local(a * b) - local(a) * local(b)
    variances = local(a * a) - local(a) ** 2 + local(b * b) - local(b) ** 2
    expected = 1 - ((2 * covariance + 1e-6) / (variances + 1e-6)).mean()
    assert float(loss("windowed_ssim", x, y)) == pytest.approx(expected, rel=1e-4)


def test_a_box_of_one_window_is_whole_box_ssim_under_that_window():
    x, y = boxes(6, shape=(7, 7, 7)), boxes(7, shape=(7, 7, 7))
    k = torch.from_numpy(gaussian(7, 1.5)).float()
    weights = (k[:, None, None] * k[:, None] * k).expand_as(x)
    expected = ssim(x, y, weights).mean()
    assert float(loss("windowed_ssim", x, y)) == pytest.approx(float(expected), rel=1e-5)


def test_windows_empty_in_both_maps_cost_nothing_and_others_their_share():
    x, y = torch.zeros(1, 1, 30, 12, 12), torch.zeros(1, 1, 30, 12, 12)
    x[:, :, :12], y[:, :, :12] = boxes(8, n=1), boxes(9, n=1)
    alone = loss("windowed_ssim", x[:, :, :18], y[:, :, :18])
    assert float(loss("windowed_ssim", x, y)) == pytest.approx(float(alone) * 12 / 24, rel=1e-5)


def test_local_contrast_survives_a_bright_background_in_float32():
    ramp = torch.linspace(0, 1, 24).view(1, 1, 24, 1, 1).expand(1, 1, 24, 12, 12)
    x, y = (ramp + 0.01 * boxes(seed, n=1, shape=(24, 12, 12)) for seed in (10, 11))
    exact = loss("windowed_ssim", x.double(), y.double())
    assert float(loss("windowed_ssim", x, y)) == pytest.approx(float(exact), rel=2e-3)


@pytest.mark.parametrize("factor", [0.3, 7.0])
def test_the_scale_of_a_map_does_not_change_its_shell_correlation(factor):
    x, y = boxes(12, shape=(24, 24, 24)), boxes(13, shape=(24, 24, 24))
    plain = float(loss("fourier_shell", x, y))
    assert float(loss("fourier_shell", factor * x, y)) == pytest.approx(plain, rel=1e-3)


def test_nor_does_the_scale_of_a_shell():
    """A filter of the map under its window; that it spreads beyond the window is the tolerance."""
    n = 48
    f = np.fft.fftfreq(n)
    radius = np.sqrt(f[:, None, None] ** 2 + f[:, None] ** 2 + f**2)
    x = faded(boxes(14, n=1, shape=(n,) * 3)[0, 0].numpy())
    damped = np.fft.ifftn(np.fft.fftn(x) * np.exp(-4 * radius**2)).real
    x, damped = (torch.from_numpy(v)[None, None] for v in (x, damped))
    assert float(loss("fourier_shell", damped, x)) < 0.01


@pytest.mark.parametrize("shape", [(20, 20, 20), (21, 21, 21), (18, 20, 17)])
def test_fourier_shell_from_every_coefficient_in_numpy(shape):
    x, y = boxes(15, n=1, shape=shape), boxes(16, n=1, shape=shape)
    f, g = (np.fft.fftn(faded(v[0, 0].double().numpy())) for v in (x, y))
    z, v, u = (np.fft.fftfreq(n) for n in shape)
    radius = np.sqrt(z[:, None, None] ** 2 + v[:, None] ** 2 + u**2)
    curve = []
    for k in range(1, int(0.35 * max(shape)) + 1):
        shell = np.rint(radius * max(shape)) == k
        cross = (f * g.conj())[shell].sum().real
        curve.append(cross / np.linalg.norm(f[shell]) / np.linalg.norm(g[shell]))
    assert float(loss("fourier_shell", x, y)) == pytest.approx(1 - np.mean(curve), abs=1e-4)


def test_fourier_shell_is_the_correlation_of_the_metrics_in_its_shells():
    n, last = 24, 8  # 8/24 is the finest shell below 0.35/Å
    x, noise = boxes(17, n=1, shape=(n, n, n)), boxes(18, n=1, shape=(n, n, n))
    y = x + noise
    every = Shells.of(Grid((n, n, n), np.ones(3), np.zeros(3)))
    number = np.rint(n / every.d)[::-1]  # ascending
    kept = np.flatnonzero(number <= last)
    starts = np.searchsorted(number[kept], np.arange(1, last + 1))
    order, d, weight = (values[::-1][kept] for values in (every.order, every.d, every.weight))
    equal = Shells(order, d, starts, weight)
    f, g = (equal.pick(faded(values[0, 0].numpy())) for values in (x, y))
    curve = fourier_shell_correlation(f, g, equal).correlation
    assert float(loss("fourier_shell", x, y)) == pytest.approx(1 - curve.mean(), abs=1e-4)


def test_the_taper_keeps_a_long_wave_out_of_the_fine_shells(monkeypatch):
    """Noise that differs plus a wave that is shared, 1.5 to the box: it jumps at the faces."""
    n = 48
    wave = torch.cos(3 * torch.pi * torch.arange(n) / n + 0.7).view(n, 1, 1)
    x, y = boxes(19, n=1, shape=(n, n, n)), boxes(20, n=1, shape=(n, n, n))

    def gain() -> float:
        return float(loss("fourier_shell", x, y) - loss("fourier_shell", x + wave, y + wave))

    tapered = gain()
    monkeypatch.setattr("cryoready.training.losses.TAPER", 0)
    assert tapered < 6 / 16  # of the 16 shells the wave may fill those around 1.5
    assert gain() > 10 / 16


@EVERY
def test_a_zone_of_ones_changes_nothing(name):
    x, y = boxes(21), boxes(22)
    zone = torch.ones_like(x, dtype=torch.bool)
    assert float(loss(name, x, y, zone)) == pytest.approx(float(loss(name, x, y)), rel=1e-6)


@EVERY
@pytest.mark.parametrize("soft", [False, True])
def test_what_lies_outside_the_zone_does_not_matter(name, soft):
    x, y = boxes(23, shape=(16, 16, 16)), boxes(24, shape=(16, 16, 16))
    zone = torch.zeros_like(x)
    zone[:, :, 3:14, 2:13, 4:] = 0.5 + 0.5 * boxes(25, shape=(11, 11, 12)) if soft else 1
    zone[:, :, 8, 8, 8] = 0  # a hole that every neighbour surrounds
    other = torch.where(zone > 0, x, 1 - 0.3 * x)
    inside = float(loss(name, x, y, zone))
    assert float(loss(name, other, y, zone)) == pytest.approx(inside, rel=1e-4)
    assert abs(inside - float(loss(name, x, y))) > 1e-4


@pytest.mark.parametrize("name", ["smooth_l1", "ssim"])
def test_a_zone_that_is_a_box_counts_as_that_box_alone(name):
    x, y = boxes(26), boxes(27)
    zone = torch.zeros_like(x)
    zone[:, :, 1:7, 2:10, 5:] = 1
    alone = loss(name, *(values[:, :, 1:7, 2:10, 5:] for values in (x, y)))
    assert float(loss(name, x, y, zone)) == pytest.approx(float(alone), rel=1e-5)


@EVERY
def test_every_box_counts_the_same_and_one_without_zone_nothing(name):
    x, y = boxes(28, n=2), boxes(29, n=2)
    zone = torch.ones_like(x)
    zone[1] = 0
    first = float(loss(name, x[:1], y[:1]))
    assert float(loss(name, x, y, zone)) == pytest.approx(first / 2, rel=1e-5)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("level", [0.0, 0.2])
def test_constant_boxes_have_a_finite_gradient(name, dtype, level):
    x = torch.full((2, 1, 12, 12, 12), level, dtype=dtype, requires_grad=True)
    target = torch.stack([torch.zeros(1, 12, 12, 12), boxes(30, n=1)[0]])
    value = loss(name, x, target)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(value)


@EVERY
def test_gradient_in_float64(name):
    x = boxes(31, n=2, shape=(8, 8, 8), dtype=torch.float64).requires_grad_()
    y = boxes(32, n=2, shape=(8, 8, 8), dtype=torch.float64)
    zone = boxes(33, n=2, shape=(8, 8, 8), dtype=torch.float64).sqrt()
    assert torch.autograd.gradcheck(lambda v: loss(name, v, y, zone, 0.3), x, fast_mode=True)


@EVERY
def test_a_validation_before_the_first_step_leaves_the_step_possible(name):
    x, y = boxes(34, shape=(13, 13, 13)), boxes(35, shape=(13, 13, 13))
    with torch.inference_mode():
        before = float(loss(name, x, y))
    x.requires_grad_()
    value = loss(name, x, y)
    value.backward()
    assert float(value.detach()) == before


def test_weights_add_up_and_a_term_of_weight_0_is_not_computed(monkeypatch):
    """Nor is the zone, which only masked terms need."""
    x, y = boxes(36), boxes(37)
    terms = {name: float(loss(name, x, y)) for name in ("smooth_l1", "ssim", "fourier_shell")}
    weights = {"smooth_l1": 0.5, "ssim": 2.0, "fourier_shell": 0.25}
    expected = sum(weights[name] * value for name, value in terms.items())
    weights |= {"windowed_ssim": 0.0, "masked_ssim": 0.0}
    monkeypatch.setitem(LOSSES, "windowed_ssim", None)
    monkeypatch.setattr("cryoready.training.losses.zone_of", None)
    assert float(total_loss(x, y, weights, beta=1.0)) == pytest.approx(expected, rel=1e-5)


def test_the_zone_is_the_model_and_two_voxels_around_it():
    target = torch.zeros((1, 1, 12, 12, 12))
    target[0, 0, 5, 5, 5] = 1
    target[0, 0, 0, 0, 0] = 0.01
    expected = torch.zeros_like(target)
    expected[0, 0, 3:8, 3:8, 3:8] = 1
    assert torch.equal(zone_of(target), expected)


def test_a_masked_loss_does_not_see_the_solvent():
    target = torch.zeros((1, 1, 12, 12, 12))
    target[0, 0, 5, 5, 5] = 1
    density = target + (1 - zone_of(target)) * torch.rand(target.shape)
    assert float(total_loss(density, target, {"masked_smooth_l1": 1.0}, beta=1.0)) == 0
    assert float(total_loss(density, target, {"smooth_l1": 1.0}, beta=1.0)) > 0.01
