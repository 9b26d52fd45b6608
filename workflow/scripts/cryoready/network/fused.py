"""The network for inference on a CPU: its smallest layers in one pass over memory each.

With 8 channels a layer does so little with each number that reading and writing them takes the
time: PyTorch passes some ten times over memory for a norm, thirty times for a transformer.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cryoready.network.loops import LANES, norm_loop, transformer_loop
from cryoready.network.scunet import SCUNet, VoxelNorm, WindowTransformer

# With more channels a transformer is faster by PyTorch's matrix products, and a norm takes little.
MOST_CHANNELS = {WindowTransformer: 8, VoxelNorm: 16}

Array = NDArray[Any]


def fused(network: SCUNet, *, loops: bool = True) -> SCUNet:
    """A copy of ``network`` for the CPU that returns the same values faster, without gradients.

    Numba compiles the loops at the first call, some 10 s, and keeps them beside the package or in
    the user's cache folder, if one can be written. Without ``loops`` only the convolutions change.
    """
    copy = deepcopy(network).eval()
    for parent in list(copy.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv3d):
                setattr(parent, name, _Convolution(layer))
            elif loops and isinstance(layer, VoxelNorm) and _suits_norm(layer):
                setattr(parent, name, _Norm(layer))
            elif loops and isinstance(layer, WindowTransformer) and _suits_transformer(layer):
                setattr(parent, name, _Transformer(layer))
    return copy


def has_fused_transformers(network: nn.Module) -> bool:
    """Whether the transformers that need the most memory are fused."""
    return any(isinstance(layer, _Transformer) for layer in network.modules())


def _suits_norm(layer: VoxelNorm) -> bool:
    return layer.gamma.numel() <= MOST_CHANNELS[VoxelNorm] and layer.eps.unique().numel() == 1


def _suits_transformer(layer: WindowTransformer) -> bool:
    return layer.ln1.weight.numel() <= MOST_CHANNELS[WindowTransformer]


class _Convolution(nn.Module):
    """A convolution that does not fall into PyTorch's slow ways for a single float32 tile.

    They take 3 times (1x1x1) to 18 times (8 channels, 48³) as long as the library call.
    """

    def __init__(self, layer: nn.Conv3d) -> None:
        super().__init__()
        self.layer = layer
        self.padding = [int(voxels) for voxels in layer.padding]

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, z, y, x) -> what the layer returns."""
        a = self.layer
        if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            y: Tensor = a(x)
        elif a.kernel_size == (1, 1, 1):
            y = nn.functional.linear(x.permute(0, 2, 3, 4, 1), a.weight.flatten(1), a.bias)
            y = y.permute(0, 4, 1, 2, 3)
        elif torch.backends.mkldnn.is_available():
            y = torch.mkldnn_convolution(
                x, a.weight, a.bias, self.padding, a.stride, a.dilation, a.groups
            )
        else:
            y = a(x)
        return y


class _Norm(nn.Module):
    """`VoxelNorm`."""

    def __init__(self, layer: VoxelNorm) -> None:
        super().__init__()
        self.eps = np.float32(layer.eps.abs().max().item())
        self.affine = [_numbers(p.flatten()) for p in (layer.gamma, layer.beta, layer.tau)]

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, z, y, x) -> the same shape."""
        x = x.contiguous(memory_format=torch.channels_last_3d)
        y = torch.empty_like(x)
        channels = x.shape[1]
        before, after = (_memory(t.permute(0, 2, 3, 4, 1)).reshape(-1, channels) for t in (x, y))
        _in_parallel(norm_loop(channels), len(before), before, self.eps, *self.affine, after)
        return y


class _Transformer(nn.Module):
    """`WindowTransformer`."""

    def __init__(self, layer: WindowTransformer) -> None:
        super().__init__()
        attention = layer.msa
        widen, narrow = (part for part in layer.mlp if isinstance(part, nn.Linear))
        self.window, self.shift = layer.window, layer.shift
        weight, bias = _after_norm(layer.ln1, attention.embedding_layer)
        channels = weight.shape[1]
        scale = (channels // attention.heads) ** -0.5
        weight[:channels] *= scale
        bias[:channels] *= scale
        self.loop = transformer_loop(self.window, channels, attention.heads, widen.out_features)
        self.numbers = (
            *(weight, bias, _numbers(attention.position_bias())),
            *map(_numbers, attention.linear.parameters()),
            *_after_norm(layer.ln2, widen),
            *map(_numbers, narrow.parameters()),
        )

    def forward(self, v: Tensor) -> Tensor:
        """(n, c, z, y, x) -> the same shape."""
        t = v.permute(0, 2, 3, 4, 1)
        out = torch.empty_like(t, memory_format=torch.contiguous_format)
        groups = -(-t[..., 0].numel() // self.window**3 // LANES)
        voxels = _memory(out).reshape(-1, t.shape[-1])
        _in_parallel(self.loop, groups, _memory(t), self.shift, *self.numbers, voxels)
        return out.permute(0, 4, 1, 2, 3)


def _numbers(values: Tensor) -> Array:
    """Parameters as a float32 array."""
    return values.detach().float().numpy().copy()


def _after_norm(norm: nn.LayerNorm, linear: nn.Linear) -> tuple[Array, Array]:
    """W (g x + b) + a = (W g) x + (W b + a): scale and shift of a norm go to the next product."""
    weight = linear.weight
    return _numbers(weight * norm.weight), _numbers(linear.bias + weight @ norm.bias)


def _memory(tensor: Tensor) -> Array:
    """The memory of a tensor; bfloat16, which NumPy lacks, as its bits."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count())


def _in_parallel(loop: Callable[..., None], count: int, *arguments: Any) -> None:
    """``loop(first, last, *arguments)`` over 0 … ``count``, in as many threads as PyTorch uses."""
    parts = np.linspace(0, count, min(torch.get_num_threads(), count) + 1).astype(int)
    jobs = [_pool().submit(loop, first, last, *arguments) for first, last in pairwise(parts)]
    for job in jobs:
        job.result()
