"""The network of `cryoready.network.scunet` written down plainly: the baseline of speed figures.

Every step is the textbook expression in eager PyTorch on the default memory layout: cyclic shifts
by `torch.roll`, a full attention mask, softmax, norms as formulas. The tensors bear the same names,
so one file of weights serves both.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoready.network.scunet import Architecture


class PlainSCUNet(nn.Module):
    """(n, 1, z, y, x) -> the same shape; see `cryoready.network.scunet.SCUNet`."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.architecture = a
        w = a.width
        self.m_head = nn.Sequential(nn.Conv3d(1, w, 3, padding=1, bias=False))
        self.m_down1 = nn.Sequential(*blocks(a, 0), nn.Conv3d(w, 2 * w, 2, 2, bias=False))
        self.m_down2 = nn.Sequential(*blocks(a, 1), nn.Conv3d(2 * w, 4 * w, 2, 2, bias=False))
        self.m_down3 = nn.Sequential(*blocks(a, 2), nn.Conv3d(4 * w, 8 * w, 2, 2, bias=False))
        self.m_body = nn.Sequential(*blocks(a, 3))
        self.m_up3 = nn.Sequential(
            nn.ConvTranspose3d(8 * w, 4 * w, 2, 2, bias=False), *blocks(a, 2)
        )
        self.m_up2 = nn.Sequential(
            nn.ConvTranspose3d(4 * w, 2 * w, 2, 2, bias=False), *blocks(a, 1)
        )
        self.m_up1 = nn.Sequential(nn.ConvTranspose3d(2 * w, w, 2, 2, bias=False), *blocks(a, 0))
        self.m_tail = nn.Sequential(nn.Conv3d(w, 1, 3, padding=1, bias=False))
        if a.skip:
            self.skip = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.m_head(x / self.architecture.scale)
        x2 = self.m_down1(x1)
        x3 = self.m_down2(x2)
        x4 = self.m_down3(x3)
        y = self.m_body(x4)
        y = self.m_up3(y + x4)
        y = self.m_up2(y + x3)
        y = self.m_up1(y + x2)
        y = self.m_tail(y + x1) * self.architecture.scale
        return y + self.skip * x if self.architecture.skip else y


def blocks(a: Architecture, level: int) -> list[nn.Module]:
    shiftable = a.box // 2**level > a.window
    return [PlainBlock(a, a.width * 2**level, shiftable and i % 2 == 1) for i in range(a.blocks)]


class PlainBlock(nn.Module):
    def __init__(self, a: Architecture, channels: int, shifted: bool) -> None:
        super().__init__()
        half = channels // 2
        self.conv1_1 = nn.Conv3d(channels, channels, 1)
        self.conv_block = nn.Sequential(
            nn.Conv3d(half, half, 3, padding=1, bias=False),
            PlainNorm(half, a.norm),
            nn.Conv3d(half, half, 3, padding=1, bias=False),
            PlainNorm(half, a.norm),
        )
        self.trans_block = PlainTransformer(a, half, a.window // 2 if shifted else 0)
        self.conv1_2 = nn.Conv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.conv1_1(x).chunk(2, dim=1)
        u = u + self.conv_block(u)
        v = self.trans_block(v.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
        return x + self.conv1_2(torch.cat((u, v), dim=1))


class PlainNorm(nn.Module):
    """Filter response normalisation over the tile ("frn") or the channels of a voxel ("voxel")."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        shape = (1, channels, 1, 1, 1)
        self.over = (2, 3, 4) if norm == "frn" else (1,)
        self.eps = nn.Parameter(torch.full(shape, 1e-6))
        self.gamma = nn.Parameter(torch.ones(shape))
        self.beta = nn.Parameter(torch.zeros(shape))
        self.tau = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        square = x.pow(2).mean(self.over, keepdim=True)
        return torch.max(
            self.gamma * x * torch.rsqrt(square + self.eps.abs()) + self.beta, self.tau
        )


class PlainTransformer(nn.Module):
    def __init__(self, a: Architecture, channels: int, shift: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(channels)
        self.msa = PlainAttention(a, channels, shift)
        self.ln2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, a.mlp_ratio * channels),
            nn.GELU(),
            nn.Linear(a.mlp_ratio * channels, channels),
        )

    def forward(self, t: Tensor) -> Tensor:
        t = t + self.msa(self.ln1(t))
        return t + self.mlp(self.ln2(t))


class PlainAttention(nn.Module):
    def __init__(self, a: Architecture, channels: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = a.window, shift
        self.heads = max(1, channels // a.head_dim)
        self.scale = (channels // self.heads) ** -0.5
        self.embedding_layer = nn.Linear(channels, 3 * channels)
        self.relative_position_params = nn.Parameter(
            torch.zeros(self.heads, *[2 * a.window - 1] * 3)
        )
        self.linear = nn.Linear(channels, channels)
        place = torch.cartesian_prod(*[torch.arange(a.window)] * 3)
        self.offset = (place[:, None] - place[None] + a.window - 1).unbind(-1)

    def forward(self, t: Tensor) -> Tensor:
        """(n, z, y, x, c) -> the same shape."""
        w, shift = self.window, self.shift
        n, z, y, x, c = t.shape
        windows = z // w, y // w, x // w
        if shift:
            t = torch.roll(t, (-shift,) * 3, (1, 2, 3))
        t = t.reshape(n, windows[0], w, windows[1], w, windows[2], w, c)
        t = t.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(n, -1, w**3, c)
        q, k, v = (
            part.reshape(n, -1, w**3, self.heads, c // self.heads).transpose(2, 3)
            for part in self.embedding_layer(t).chunk(3, dim=-1)
        )
        scores = q @ k.transpose(-2, -1) * self.scale
        scores = scores + self.relative_position_params[(slice(None), *self.offset)]
        if shift:
            scores = scores.masked_fill(self.apart(windows)[:, None], -torch.inf)
        t = (functional.softmax(scores, dim=-1) @ v).transpose(2, 3).reshape(n, -1, w**3, c)
        t = self.linear(t).reshape(n, *windows, w, w, w, c)
        t = t.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(n, z, y, x, c)
        return torch.roll(t, (shift,) * 3, (1, 2, 3)) if shift else t

    def apart(self, windows: tuple[int, int, int]) -> Tensor:
        """(windows, w³, w³): pairs that the shift brought together from opposite borders."""
        w = self.window
        axes = []
        for count in windows:
            side = torch.zeros(count, w, dtype=torch.long)
            side[-1, w - self.shift :] = 1
            axes.append(side)
        z, y, x = (side for side in axes)
        region = (
            4 * z[:, None, None, :, None, None]
            + 2 * y[None, :, None, None, :, None]
            + x[None, None, :, None, None, :]
        ).reshape(-1, w**3)
        return region[:, :, None] != region[:, None, :]
