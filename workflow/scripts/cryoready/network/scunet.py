"""The 3D Swin-Conv-UNet, read top-down like the figure of the paper.

Zhang et al., SCUNet, arXiv 2203.13278; its 3D form for cryo-EM maps: He, Li & Huang (EMReady),
doi 10.1038/s41467-023-39031-1. `Architecture()` and the module names are those of EMReady's
published weights; every other value of `Architecture` is a variant of ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

_LEVELS = 3  # halvings of the grid between the head and the body
_BRANCHES = ("both", "convolution", "attention")


@dataclass(frozen=True)
class Architecture:
    """Every size of the network; the defaults are the published ones.

    Parameters
    ----------
    width
        channels of the head; doubled at each of the three halvings of the grid.
    blocks
        Swin-Conv blocks per stage, alternately with plain and with shifted windows.
    head_dim
        channels per attention head; a stage with fewer channels has one head of all of them.
    window
        edge of an attention window, voxels of the stage.
    mlp_ratio
        hidden over outer channels of the transformer's perceptron.
    norm
        "frn": statistics over the whole tile, as published, so the tile size changes the function;
        "voxel": statistics over the channels of one voxel, the same in every tile.
    box
        nominal edge of the input, voxels; a stage not larger than its window is never shifted.
    scale
        the network works on values divided by this; 1 as published. Input and output keep their
        unit. With inputs of 0-100, 100 lets a training from scratch start with unit activations.
    branches
        "both" as published; "convolution" or "attention": all channels of a block take this way.
    skip
        the output is a learnt share of the input plus what the layers add: what the network does
        not know stays as it was. A training from scratch starts with the input unchanged.
    """

    width: int = 32
    blocks: int = 2
    head_dim: int = 16
    window: int = 3
    mlp_ratio: int = 4
    norm: str = "frn"
    box: int = 48
    scale: float = 1.0
    branches: str = "both"
    skip: bool = False

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "head_dim", "window", "mlp_ratio", "box"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive whole number, got {value!r}")
        half = self.width // 2
        if self.width % 2 or (half % self.head_dim and self.head_dim % half):
            raise ValueError(
                f"half of width {self.width} must be a multiple or a divisor of head_dim "
                f"{self.head_dim}"
            )
        for name, known in (("norm", tuple(_NORMS)), ("branches", _BRANCHES)):
            if getattr(self, name) not in known:
                choices = ", ".join(known)
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        if self.box % self.multiple:
            raise ValueError(f"box must be a multiple of {self.multiple}, got {self.box}")
        if type(self.scale) not in (int, float) or not 0 < self.scale < float("inf"):
            raise ValueError(f"scale must be positive and finite, got {self.scale!r}")

    @property
    def multiple(self) -> int:
        """Every edge of the input is a multiple of this, in voxels."""
        return self.window * 2**_LEVELS


class SCUNet(nn.Module):
    """Map in, map out, both (n, 1, z, y, x) in the intensity convention of the weights.

    Raises
    ------
    ValueError
        when an edge of the input is not a multiple of `multiple` voxels.
    """

    skip: nn.Parameter

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.architecture = a = architecture or Architecture()
        w = a.width
        self.m_head = nn.Sequential(nn.Conv3d(1, w, 3, padding=1, bias=False))
        self.m_down1 = nn.Sequential(*_stage(a, 0), _halve(w))
        self.m_down2 = nn.Sequential(*_stage(a, 1), _halve(2 * w))
        self.m_down3 = nn.Sequential(*_stage(a, 2), _halve(4 * w))
        self.m_body = nn.Sequential(*_stage(a, 3))
        self.m_up3 = nn.Sequential(_double(8 * w), *_stage(a, 2))
        self.m_up2 = nn.Sequential(_double(4 * w), *_stage(a, 1))
        self.m_up1 = nn.Sequential(_double(2 * w), *_stage(a, 0))
        self.m_tail = nn.Sequential(nn.Conv3d(w, 1, 3, padding=1, bias=False))
        self.apply(_initialise)
        _damp_residuals(self)
        if a.skip:
            self.skip = nn.Parameter(torch.ones(()))
            for weight in self.m_tail.parameters():
                nn.init.zeros_(weight)

    @property
    def multiple(self) -> int:
        """Every edge of the input is a multiple of this, in voxels."""
        return self.architecture.multiple

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, z, y, x) density -> (n, 1, z, y, x) enhanced density."""
        if x.ndim != 5 or x.shape[1] != 1 or any(edge % self.multiple for edge in x.shape[2:]):
            raise ValueError(
                f"input must be (n, 1, z, y, x) with edges that are multiples of {self.multiple} "
                f"voxels, got {tuple(x.shape)}"
            )
        x1 = self.m_head(x / self.architecture.scale)
        # one copy here keeps every later layer channels-last: windows and 1x1x1 layers are views
        x1 = x1.contiguous(memory_format=torch.channels_last_3d)
        x2 = self.m_down1(x1)
        x3 = self.m_down2(x2)
        x4 = self.m_down3(x3)
        y = self.m_body(x4)
        y = self.m_up3(y + x4)
        y = self.m_up2(y + x3)
        y = self.m_up1(y + x2)
        enhanced: Tensor = self.m_tail(y + x1) * self.architecture.scale
        return enhanced + self.skip * x if self.architecture.skip else enhanced


def _stage(a: Architecture, level: int) -> list[nn.Module]:
    """The Swin-Conv blocks of one stage, ``level`` halvings below the input."""
    shiftable = a.box // 2**level > a.window
    return [
        SwinConvBlock(a, a.width * 2**level, shifted=shiftable and i % 2 == 1)
        for i in range(a.blocks)
    ]


def _halve(channels: int) -> nn.Conv3d:
    """Half the grid, twice the channels."""
    return nn.Conv3d(channels, 2 * channels, 2, stride=2, bias=False)


def _double(channels: int) -> nn.ConvTranspose3d:
    """Twice the grid, half the channels."""
    return nn.ConvTranspose3d(channels, channels // 2, 2, stride=2, bias=False)


class SwinConvBlock(nn.Module):
    """One half of the channels through convolutions, the other through window attention."""

    def __init__(self, a: Architecture, channels: int, *, shifted: bool) -> None:
        super().__init__()
        half = channels // 2
        self.shares = {
            "both": (half, half),
            "convolution": (channels, 0),
            "attention": (0, channels),
        }[a.branches]
        convolved, attended = self.shares
        self.conv1_1 = nn.Conv3d(channels, channels, 1)
        if convolved:
            self.conv_block = nn.Sequential(
                nn.Conv3d(convolved, convolved, 3, padding=1, bias=False),
                _NORMS[a.norm](convolved),
                nn.Conv3d(convolved, convolved, 3, padding=1, bias=False),
                _NORMS[a.norm](convolved),
            )
        if attended:
            shift = a.window // 2 if shifted else 0
            self.trans_block = WindowTransformer(a, attended, shift=shift)
        self.conv1_2 = nn.Conv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, z, y, x) -> the same shape."""
        u, v = self.conv1_1(x).split(self.shares, dim=1)
        if u.shape[1]:
            u = u + self.conv_block(u)
        if v.shape[1]:
            v = self.trans_block(v)
        mixed: Tensor = self.conv1_2(torch.cat((u, v), dim=1))
        return x + mixed


class WindowTransformer(nn.Module):
    """Attention and perceptron inside windows of ``window``³ voxels, as in Swin.

    The windows are cut once: normalisation and perceptron act on single tokens and do not mind.
    """

    def __init__(self, a: Architecture, channels: int, *, shift: int) -> None:
        super().__init__()
        self.window, self.shift = a.window, shift
        self.ln1 = nn.LayerNorm(channels)
        self.msa = WindowAttention(a, channels, shift=shift)
        self.ln2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, a.mlp_ratio * channels),
            nn.GELU(),
            nn.Linear(a.mlp_ratio * channels, channels),
        )

    def forward(self, v: Tensor) -> Tensor:
        """(n, c, z, y, x) -> the same shape."""
        t = cut_windows(_roll(v.permute(0, 2, 3, 4, 1), -self.shift), self.window)
        # in the precision of the weights: under autocast more exact, and on the CPU 5 times faster
        exact = self.ln1.weight.dtype
        t = t + self.msa(self.ln1(t.to(exact)))
        t = t + self.mlp(self.ln2(t.to(exact)))
        return _roll(join_windows(t, self.window), self.shift).permute(0, 4, 1, 2, 3)


class WindowAttention(nn.Module):
    """Multi-head self-attention among the tokens of each window, with relative positions."""

    relative_index: Tensor

    def __init__(self, a: Architecture, channels: int, *, shift: int) -> None:
        super().__init__()
        self.window, self.shift = a.window, shift
        self.heads = max(1, channels // a.head_dim)
        self.embedding_layer = nn.Linear(channels, 3 * channels)
        self.relative_position_params = nn.Parameter(
            torch.zeros(self.heads, *[2 * a.window - 1] * 3)
        )
        self.linear = nn.Linear(channels, channels)
        self.register_buffer("relative_index", _relative_index(a.window), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """(n, wz, wy, wx, tokens, c) windows -> the same shape."""
        q, k, v = (
            part.flatten(0, 3).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.embedding_layer(t).chunk(3, dim=-1)
        )
        scores = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)  # (windows, heads, tokens, tokens)
        scores += self.position_bias().to(scores.dtype)
        exponential = _exponential_is_safe(scores)
        if self.shift:
            self._separate_wrapped(scores.unflatten(0, t.shape[:4]))
        mixed = _weighted_mean(scores.exp_(), v) if exponential else scores.softmax(dim=-1) @ v
        out: Tensor = self.linear(mixed.transpose(1, 2).reshape(t.shape))
        return out

    def position_bias(self) -> Tensor:
        """(heads, tokens, tokens): the bias of each offset query - key."""
        return self.relative_position_params.flatten(1)[:, self.relative_index]

    @torch.no_grad()  # adds constants: the gradient of the scores is the same before and after
    def _separate_wrapped(self, scores: Tensor) -> None:
        """Keep voxels that the roll brought from the opposite border apart, axis by axis.

        Only the last window of an axis holds such voxels, so only its scores are touched.
        """
        walls = _walls(self.window, self.shift, scores.dtype, scores.device)
        for axis in range(3):
            scores.select(1 + axis, -1).add_(walls[axis])


def _exponential_is_safe(scores: Tensor) -> bool:
    """Whether exp(scores) / Σ exp(scores) may replace softmax: bfloat16 on the CPU, no overflow.

    There softmax over the 27 tokens of a window takes four times as long as the exponentials.
    """
    if scores.dtype != torch.bfloat16 or not scores.is_cpu:
        return False
    low, high = scores.detach().aminmax()
    return max(-low.item(), high.item()) < 40  # e^±40 squared is within the range of bfloat16


def _weighted_mean(weights: Tensor, values: Tensor) -> Tensor:
    """(.., tokens, tokens) weights, (.., tokens, d) values -> (.., tokens, d): Σ w v / Σ w.

    A matrix product gives Σ w as wide as the values: far faster than a sum and a broadcast.
    """
    sums = weights @ nn.functional.pad(values, (0, values.shape[-1]), value=1.0)
    weighted, total = sums.chunk(2, dim=-1)
    return weighted / total


def cut_windows(t: Tensor, window: int) -> Tensor:
    """(n, z, y, x, c) -> (n, z/w, y/w, x/w, w³, c), tokens in C order of (z, y, x)."""
    for axis in (1, 3, 5):
        t = t.unflatten(axis, (-1, window))
    return t.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6)


def join_windows(t: Tensor, window: int) -> Tensor:
    """The inverse of `cut_windows`."""
    t = t.unflatten(4, (window, window, window)).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return t.flatten(5, 6).flatten(3, 4).flatten(1, 2)


class _Roll(torch.autograd.Function):
    """`torch.roll` along z, y and x in one pass over memory instead of three."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, shift: int) -> Tensor:
        """(n, z, y, x, c) cyclically shifted by ``shift`` voxels along z, y and x."""
        ctx.shift = shift
        rolled = torch.empty_like(t, memory_format=torch.contiguous_format)
        wrapped = slice(None, shift), slice(-shift, None)
        others = slice(shift, None), slice(None, -shift)
        for parts in product((wrapped, others), repeat=3):
            (z, from_z), (y, from_y), (x, from_x) = parts
            rolled[:, z, y, x] = t[:, from_z, from_y, from_x]
        return rolled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The roll back."""
        return _roll(gradient, -ctx.shift), None


def _roll(t: Tensor, shift: int) -> Tensor:
    """(n, z, y, x, c) cyclically shifted along z, y and x."""
    if not shift:
        return t
    rolled: Tensor = _Roll.apply(t, shift)  # type: ignore[no-untyped-call]
    return rolled


def _relative_index(window: int) -> Tensor:
    """(w³, w³) position of each offset query - key in the flattened (2w-1)³ table."""
    tokens = torch.tensor(list(product(range(window), repeat=3)))
    offset = tokens[:, None] - tokens[None] + window - 1
    return offset @ torch.tensor([(2 * window - 1) ** 2, 2 * window - 1, 1])


@cache
def _walls(window: int, shift: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(3, w³, w³): 0 within, -inf between wrapped and other tokens of an axis' last window."""
    tokens = torch.tensor(list(product(range(window), repeat=3)))
    wrapped = (tokens >= window - shift).T
    apart = wrapped[:, :, None] != wrapped[:, None, :]
    wall = torch.zeros(apart.shape, dtype=dtype).masked_fill_(apart, -torch.inf)
    return wall.to(device)


class FilterResponseNorm(nn.Module):
    """Filter response normalisation and thresholded linear unit, arXiv 1911.09737, eq. 1-3.

    The mean square is taken over the whole tile per sample and channel: the output of a voxel
    depends on the tile it is in.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        shape = (1, channels, 1, 1, 1)
        # not learned: the paper learns eps only where a channel has a single voxel
        self.eps = nn.Parameter(torch.full(shape, 1e-6), requires_grad=False)
        self.gamma = nn.Parameter(torch.ones(shape))
        self.beta = nn.Parameter(torch.zeros(shape))
        self.tau = nn.Parameter(torch.zeros(shape))

    @staticmethod
    def average(values: Tensor) -> Tensor:
        """(n, c, z, y, x) -> (n, c, 1, 1, 1)."""
        return values.mean((2, 3, 4), keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, z, y, x) -> the same shape."""
        normal: Tensor = _Normalise.apply(x, self.eps.abs(), self.average)  # type: ignore[no-untyped-call]
        # max(y, tau) = relu(y - tau) + tau, whose gradient costs a tenth
        y = normal * _along_x(self.gamma, x) + _along_x(self.beta - self.tau, x)
        return y.relu() + _along_x(self.tau, x)


class VoxelNorm(FilterResponseNorm):
    """The same with the mean square over the channels of each voxel: independent of the tile."""

    @staticmethod
    def average(values: Tensor) -> Tensor:
        """(n, c, z, y, x) -> the same shape, all channels alike.

        A matrix product: far faster than a sum over few adjacent numbers and a broadcast.
        """
        channels = values.shape[1]
        weights = values.new_full((channels, channels), 1 / channels)
        return (values.permute(0, 2, 3, 4, 1) @ weights).permute(0, 4, 1, 2, 3)


class _Normalise(torch.autograd.Function):
    """x·r with r = 1/√(mean x² + eps), the statistics at least in float32.

    The gradient by hand, r·(g - y·mean(g·y)) for y = x·r, needs a third of the memory traffic.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
        """(n, c, z, y, x) -> the same shape."""
        with torch.autocast(x.device.type, enabled=False):
            exact = x.to(torch.promote_types(x.dtype, torch.float32))
            inverse = average(exact.square()).add_(eps).rsqrt_().to(x.dtype)
        ctx.average = average
        normal = x * inverse
        ctx.save_for_backward(normal, inverse)
        return normal

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """With respect to x; eps is not learned."""
        normal, inverse = ctx.saved_tensors
        along = ctx.average(gradient * normal)
        return (gradient - normal * along) * inverse, None, None


def _along_x(parameter: Tensor, x: Tensor) -> Tensor:
    """(1, c, 1, 1, 1) -> (1, c, 1, 1, x), channels-last, in the type of ``x``.

    Channels times x is a run of memory long enough for vector instructions; channels alone is not.
    """
    repeated = parameter.to(x.dtype).expand(-1, -1, -1, -1, x.shape[-1])
    return repeated.contiguous(memory_format=torch.channels_last_3d)


_NORMS: dict[str, type[FilterResponseNorm]] = {"frn": FilterResponseNorm, "voxel": VoxelNorm}


def _initialise(module: nn.Module) -> None:
    """Start of a training from scratch.

    Convolutions keep the variance (Kaiming with gain 1: none is followed by a rectifier without a
    normalisation between). Transformer weights are small, as in Swin, so that each of its
    residual branches starts near zero.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_params, std=0.02)
    elif isinstance(module, nn.ConvTranspose3d):
        # kernel = stride: each output voxel sums over the input channels only
        nn.init.normal_(module.weight, std=module.in_channels**-0.5)
    elif isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def mixed_with_input(network: SCUNet, *, share: float) -> SCUNet:
    """A network with a skip: ``share`` · input + (1 - ``share``) · the output of before."""
    mixed = SCUNet(replace(network.architecture, skip=True))
    mixed.load_state_dict({"skip": torch.zeros(()), **network.state_dict()})
    mixed.skip.mul_(1 - share).add_(share)
    for weight in mixed.m_tail.parameters():
        weight.mul_(1 - share)
    return mixed


@torch.no_grad()
def _damp_residuals(network: SCUNet) -> None:
    """Divide the last layer of N residual blocks by √N: together they about double the variance."""
    blocks = [module for module in network.modules() if isinstance(module, SwinConvBlock)]
    for block in blocks:
        block.conv1_2.weight /= len(blocks) ** 0.5
