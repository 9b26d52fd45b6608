"""Losses between predicted and target boxes, each a mean over the batch."""

from torch import Tensor
from torch.nn.functional import smooth_l1_loss

EPSILON = 1e-6


def contrast_structure(prediction: Tensor, target: Tensor) -> Tensor:
    """Contrast × structure of SSIM with the statistics of the whole box, (n,).

    (2 σ_XY + ε)/(σ_X² + σ_Y² + ε): SSIM (doi 10.1109/TIP.2003.819861) without its luminance term,
    as in EMReady (doi 10.1038/s41467-023-39031-1).

    Parameters
    ----------
    prediction, target
        (n, 1, z, y, x), 0-1.
    """
    x, y = prediction.float().flatten(1), target.float().flatten(1)
    x, y = x - x.mean(dim=1, keepdim=True), y - y.mean(dim=1, keepdim=True)
    covariance = (x * y).mean(dim=1)
    variances = x.square().mean(dim=1) + y.square().mean(dim=1)
    return (2 * covariance + EPSILON) / (variances + EPSILON)


def emready_loss(
    prediction: Tensor, target: Tensor, *, beta: float, smooth_l1: float, ssim: float
) -> Tensor:
    """``smooth_l1`` · SmoothL1 + ``ssim`` · (1 - contrast_structure), EMReady's loss.

    Parameters
    ----------
    prediction, target
        (n, 1, z, y, x), 0-1 (network units / 100).
    beta
        where SmoothL1 turns from quadratic to linear, in the units of the values.
    smooth_l1, ssim
        weights of the two terms; the paper has 1 and 1.
    """
    pointwise = smooth_l1_loss(prediction.float(), target.float(), beta=beta)
    return smooth_l1 * pointwise + ssim * (1 - contrast_structure(prediction, target).mean())
