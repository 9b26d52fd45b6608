"""The loss against its formula."""

import numpy as np
import pytest
import torch

from cryoready.training.losses import contrast_structure, emready_loss


def boxes(seed, n=3):
    return torch.rand((n, 1, 12, 12, 12), generator=torch.Generator().manual_seed(seed))


def test_identical_boxes_cost_nothing():
    x = boxes(0)
    assert float(emready_loss(x, x, beta=1.0, smooth_l1=1.0, ssim=1.0)) == pytest.approx(
        0, abs=1e-6
    )


def test_inverted_contrast_costs_two():
    x = boxes(0)
    np.testing.assert_allclose(contrast_structure(-x, x).numpy(), -1, atol=1e-4)


def test_there_is_no_luminance_term():
    x = boxes(0)
    np.testing.assert_allclose(contrast_structure(x + 5, x).numpy(), 1, atol=1e-4)


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_a_change_of_contrast_alone_gives_2f_over_1_plus_f_squared(factor):
    x = boxes(1)
    expected = 2 * factor / (1 + factor**2)
    np.testing.assert_allclose(contrast_structure(factor * x, x).numpy(), expected, rtol=1e-3)


def test_formula_in_numpy():
    x, y = boxes(2), boxes(3)
    terms = []
    for a, b in zip(x.numpy().reshape(3, -1), y.numpy().reshape(3, -1), strict=True):
        covariance = ((a - a.mean()) * (b - b.mean())).mean()
        terms.append((2 * covariance + 1e-6) / (a.var() + b.var() + 1e-6))
    d = np.abs((x - y).numpy())
    smooth = np.where(d < 0.3, 0.5 * d**2 / 0.3, d - 0.15).mean()
    expected = 2.0 * smooth + 0.5 * (1 - np.mean(terms))
    got = float(emready_loss(x, y, beta=0.3, smooth_l1=2.0, ssim=0.5))
    assert got == pytest.approx(expected, rel=1e-4)


def test_constant_boxes_have_a_finite_gradient():
    x = torch.full((1, 1, 6, 6, 6), 0.2, requires_grad=True)
    emready_loss(x, torch.zeros_like(x), beta=1.0, smooth_l1=1.0, ssim=1.0).backward()
    assert torch.isfinite(x.grad).all()
