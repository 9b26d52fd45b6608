"""Losses between predicted and target boxes.

Every term takes prediction, target and zone, each (n, 1, z, y, x), and returns one value a box,
(n,), 0 where the two agree. Densities are 0-1 (network units / 100). The zone has weights of 0-1;
what lies outside it does not count, and a box without any zone costs nothing.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial

import numpy as np
import torch
from scipy.linalg import convolution_matrix
from scipy.signal.windows import gaussian, tukey
from torch import Tensor
from torch.nn import functional

from cryoready.core.errors import CryoreadyError
from cryoready.core.fourier import frequency_radius, shell_index

EPSILON = 1e-6
SIGMA = 1.5  # voxels, of the windows of `windowed_ssim`
REACH = 3  # voxels from the centre of a window to its end
TAPER = 0.5  # share of the box edge over which `fourier_shell` fades, both ends together
FINEST = 0.35  # 1/Å, centre of the last shell; voxels are 1 Å
BOX = (-3, -2, -1)
MASKED = "masked_"  # before the name of a loss: near the model only
ZONE_LEVEL = 0.02  # of a target: above it is model
ZONE_REACH = 2  # voxels around the model that belong to its zone


def smooth_l1(prediction: Tensor, target: Tensor, zone: Tensor, *, beta: float) -> Tensor:
    """Mean of d²/2β where |d| is below ``beta``, else of |d| - β/2; d = prediction - target."""
    pointwise = functional.smooth_l1_loss(prediction, target, beta=beta, reduction="none")
    return _mean(pointwise, zone).flatten()


def ssim(prediction: Tensor, target: Tensor, zone: Tensor) -> Tensor:
    """1 - contrast × structure of SSIM, from the statistics of the whole box or zone.

    1 - (2 σ_XY + ε)/(σ_X² + σ_Y² + ε): SSIM (doi 10.1109/TIP.2003.819861) without its luminance
    term, as in EMReady (doi 10.1038/s41467-023-39031-1).
    """
    return _dissimilarity(prediction, target, zone, partial(_mean, zone=zone)).flatten()


def windowed_ssim(prediction: Tensor, target: Tensor, zone: Tensor) -> Tensor:
    """1 - mean contrast × structure of Gaussian windows (doi 10.1109/TIP.2003.819861).

    The formula of `ssim` in windows of σ 1.5 voxels as in the source, cut to 7³ voxels (there
    11²), with every centre whose window lies in the box. Windows that are constant in both maps
    cost nothing; a window counts as much as the zone at its centre.
    """
    share = _windows(zone).clamp_min(EPSILON)
    local = _dissimilarity(prediction, target, zone, lambda v: _windows(v * zone) / share)
    inner = slice(REACH, -REACH)
    return _mean(local, zone[..., inner, inner, inner]).flatten()


def fourier_shell(prediction: Tensor, target: Tensor, zone: Tensor) -> Tensor:
    """1 - mean over the shells of the Fourier shell correlation of box or zone.

    Σ Re(F₁F₂*) / √(Σ|F₁|² Σ|F₂|²) (Harauz & van Heel 1986, Optik 73:146) in shells of 1/edge
    without the origin, up to 0.35/Å, all of equal weight: fine detail counts as much as shape,
    and the scale of a shell does not count. Each sum has ε added, so that an empty shell has a
    gradient and two of them agree. Both maps lose their mean and fade out before the transform,
    towards the faces of the box (Tukey) and inside the edge of the zone, lest the shared edges
    correlate.
    """
    window = _fading(zone)
    positions, shells = _shells(zone.shape[2:], zone.dtype, zone.device)

    def coefficients(density: Tensor) -> Tensor:
        faded = (density - _mean(density, window)) * window
        return torch.fft.rfftn(faded, dim=BOX, norm="ortho").flatten(1)[:, positions]

    def sums(first: Tensor, second: Tensor) -> Tensor:
        return (first * second.conj()).real @ shells + EPSILON

    f, g = coefficients(prediction), coefficients(target)
    return 1 - (sums(f, g) / (sums(f, f) * sums(g, g)).sqrt()).mean(dim=1)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "smooth_l1": smooth_l1,
    "ssim": ssim,
    "windowed_ssim": windowed_ssim,
    "fourier_shell": fourier_shell,
}


def total_loss(
    prediction: Tensor,
    target: Tensor,
    weights: Mapping[str, float],
    *,
    beta: float,
    zone: Tensor | None = None,
) -> Tensor:
    """Σ weight · loss, the mean over the batch, in float32 (float64 stays).

    Parameters
    ----------
    prediction, target
        (n, 1, z, y, x), 0-1 (network units / 100).
    weights
        of the `LOSSES` by name, ``masked_`` before it: near the model only; one of weight 0 is not
        computed (`check_weights`). EMReady has ``smooth_l1`` and ``ssim``, 1 each.
    beta
        where ``smooth_l1`` turns from quadratic to linear, in the units of the values.
    zone
        (n, 1, z, y, x), 0-1 or boolean: where masked losses are taken; None: `zone_of` the target.
    """
    used = {name: weight for name, weight in weights.items() if weight}
    x, y = _float32(prediction), _float32(target)
    everywhere = near = torch.ones_like(x)
    if any(name.startswith(MASKED) for name in used):
        near = _float32(zone_of(target) if zone is None else zone)
    losses = LOSSES | {"smooth_l1": partial(smooth_l1, beta=beta)}
    terms = [
        weight
        * losses[name.removeprefix(MASKED)](
            x, y, near if name.startswith(MASKED) else everywhere
        ).mean()
        for name, weight in used.items()
    ]
    return torch.stack(terms).sum()


def _float32(values: Tensor) -> Tensor:
    """At least so exact."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def zone_of(target: Tensor) -> Tensor:
    """Where (n, 1, z, y, x) ``target`` has density, and `ZONE_REACH` voxels around it."""
    near = (target > ZONE_LEVEL).float()
    return functional.max_pool3d(near, 2 * ZONE_REACH + 1, 1, ZONE_REACH)


def check_weights(weights: Mapping[str, float]) -> None:
    """Stop if `total_loss` cannot take ``weights``.

    Raises
    ------
    CryoreadyError
        if a name is unknown, a weight negative, or none above 0.
    """
    known = ", ".join(LOSSES)
    for name, weight in weights.items():
        if name.removeprefix(MASKED) not in LOSSES:
            raise CryoreadyError(
                f"train.loss names an unknown loss {name!r}; known: {known}, "
                f"and these with {MASKED!r} before the name"
            )
        if not weight >= 0:
            raise CryoreadyError(
                f"train.loss.{name} is {weight:g}; a weight must be 0 or more (0 leaves it out)"
            )
    if not any(weights.values()):
        raise CryoreadyError(f"train.loss has no weight above 0; give one of {known} a weight")


def _dissimilarity(
    prediction: Tensor, target: Tensor, zone: Tensor, mean: Callable[[Tensor], Tensor]
) -> Tensor:
    """σ²(X - Y) / (σ_X² + σ_Y² + ε) = 1 - contrast × structure, with the moments of ``mean``.

    Written with the difference, equal maps give an exact 0; without the mean of the box, the
    squares of float32 lose little to the subtraction.
    """
    x, y = (v - _mean(v, zone) for v in (prediction, target))
    mean_x, mean_y, error, power = mean(torch.stack([x, y, (x - y).square(), x * x + y * y]))
    unexplained = (error - (mean_x - mean_y).square()).clamp_min(0)
    variances = (power - mean_x.square() - mean_y.square()).clamp_min(0)
    return unexplained / (variances + EPSILON)


def _mean(values: Tensor, zone: Tensor) -> Tensor:
    """Mean inside the zone, (..., z, y, x) -> (..., 1, 1, 1); 0 without any zone."""
    return (values * zone).sum(BOX, keepdim=True) / zone.sum(BOX, keepdim=True).clamp_min(EPSILON)


def _windows(values: Tensor) -> Tensor:
    """Gaussian mean around every voxel at least `REACH` from a face, (..., z - 6, y - 6, x - 6)."""
    bands = (_band(n, values.dtype, values.device) for n in values.shape[-3:])
    return torch.einsum("...zyx,zk,yj,xi->...kji", values, *bands)


def _fading(zone: Tensor) -> Tensor:
    """Weights that fall to 0 towards the faces of the box and, inside it, the edge of the zone."""
    z, y, x = (
        torch.as_tensor(tukey(n, TAPER), dtype=zone.dtype, device=zone.device)
        for n in zone.shape[-3:]
    )
    around = _windows(functional.pad(zone, (REACH,) * 6, mode="replicate"))
    return (2 * around - 1).clamp_min(0) * zone * z[:, None, None] * y[:, None] * x


# Tensors that outlive a validation must not be inference tensors: the next step could not use them.
@cache
@torch.inference_mode(mode=False)
def _band(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(n, n - 6) Gaussian window of every centre: as a product, fast on the CPU without threads."""
    kernel = gaussian(2 * REACH + 1, SIGMA)
    band = convolution_matrix(kernel / kernel.sum(), n - 2 * REACH)
    return torch.as_tensor(band, dtype=dtype, device=device)


@cache
@torch.inference_mode(mode=False)
def _shells(
    shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The coefficients of an rfftn that count, and how often each does in every shell.

    (m,) positions and (m, shells): 1 in the plane x = 0, which holds both of a Friedel pair, else
    2; the Nyquist plane, which also does, is never as coarse as `FINEST`.
    """
    edge = max(shape)
    radius = frequency_radius(shape, np.ones(3))
    number = shell_index(radius + 0.5 / edge, 1 / edge)  # shell k is centred on k / edge
    last = int(FINEST * edge)
    positions = np.flatnonzero((number > 0) & (number <= last))
    often = np.where(positions % radius.shape[2], 2, 1)
    shells = often[:, None] * (number.ravel()[positions, None] == np.arange(1, last + 1))
    return (
        torch.as_tensor(positions, device=device),
        torch.as_tensor(shells, dtype=dtype, device=device),
    )
