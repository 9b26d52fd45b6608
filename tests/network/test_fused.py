"""The fused layers against those of PyTorch, which they replace on a CPU."""

import pytest
import torch

from cryoready.network.fused import fused
from cryoready.network.loops import norm_loop
from cryoready.network.scunet import Architecture, SCUNet, VoxelNorm, WindowTransformer

SMALL = Architecture(width=16, blocks=2, norm="voxel", skip=True)


def scrambled(module, size=0.3, seed=0):
    """Parameters that are none of them zero: an untrained network hides what they do."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in filter(lambda p: p.requires_grad, module.parameters()):
            p.add_(torch.randn(p.shape, generator=generator), alpha=size)
    return module.eval()


def only(module):
    """``module`` inside a network that `fused` can take: here its one layer."""
    holder = SCUNet(SMALL)
    holder.m_body = torch.nn.Sequential(module)
    return fused(holder).m_body[0]


def rms(values):
    return values.square().mean().sqrt().item()


@pytest.mark.parametrize("shape", [(1, 8, 24, 24, 24), (2, 8, 9, 6, 15), (3, 8, 3, 3, 3)])
@pytest.mark.parametrize("shift", [0, 1])
@torch.inference_mode()
def test_transformer_returns_the_same(shape, shift):
    """Windows of an odd number, fewer than the lanes, and wrapped around every border."""
    layer = scrambled(WindowTransformer(SMALL, 8, shift=shift))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = layer(x)
    torch.testing.assert_close(only(layer)(x), expected, rtol=1e-5, atol=2e-5)


@torch.inference_mode()
def test_transformer_reads_part_of_the_channels():
    """In a block it gets the second half of a tensor: strides that are no multiple of 8."""
    layer = scrambled(WindowTransformer(SMALL, 8, shift=1))
    x = torch.randn(1, 16, 6, 9, 12).contiguous(memory_format=torch.channels_last_3d)[:, 8:]
    torch.testing.assert_close(only(layer)(x), layer(x), rtol=1e-5, atol=2e-5)


@torch.inference_mode()
def test_several_heads_and_large_scores():
    """Two heads of four channels; scores of hundreds, whose exponentials overflow by themselves."""
    a = Architecture(width=16, head_dim=4, norm="voxel")
    layer = scrambled(WindowTransformer(a, 8, shift=1))
    layer.msa.embedding_layer.weight.mul_(10)
    x = torch.randn(1, 8, 6, 6, 6, generator=torch.Generator().manual_seed(1))
    result = only(layer)(x)
    assert torch.isfinite(result).all()
    torch.testing.assert_close(result, layer(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("channels", [8, 12, 16])
@torch.inference_mode()
def test_norm_returns_the_same(channels):
    layer = scrambled(VoxelNorm(channels))
    x = torch.randn(2, channels, 5, 7, 3)
    torch.testing.assert_close(only(layer)(x), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("layer", "channels"), [("norm", 16), ("transformer", 8)])
@torch.inference_mode()
def test_bfloat16_is_rounded_once(layer, channels):
    """Half a unit of the last of 8 bits at most, and to the even of two: as PyTorch rounds."""
    layer = scrambled(
        VoxelNorm(channels) if layer == "norm" else WindowTransformer(SMALL, channels, shift=1)
    )
    x = torch.randn(1, channels, 6, 6, 6).bfloat16()
    result, exact = only(layer)(x), layer(x.float())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), exact, rtol=2**-8, atol=1e-5)
    same = (result == exact.bfloat16()).float().mean().item()
    assert same > 0.99


@pytest.mark.parametrize("threads", [1, 3])
@torch.inference_mode()
def test_the_whole_network_returns_the_same(threads, request):
    before = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(before))
    torch.set_num_threads(threads)
    network = scrambled(SCUNet(SMALL), 0.03)
    x = torch.rand(1, 1, 24, 48, 72, generator=torch.Generator().manual_seed(2)) * 100
    expected = network(x)
    error = rms(fused(network)(x) - expected)
    assert error < 1e-5 * rms(expected)


@torch.inference_mode()
def test_under_autocast_it_is_not_less_exact():
    network = scrambled(SCUNet(SMALL), 0.03)
    x = torch.rand(1, 1, 24, 24, 24) * 100
    exact = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        usual, fast = network(x), fused(network)(x)
    assert rms(fast - exact) < 1.1 * rms(usual - exact)


def test_the_network_itself_stays_as_it_was():
    network = SCUNet(SMALL)
    fused(network)
    assert any(isinstance(layer, VoxelNorm) for layer in network.modules())


@torch.inference_mode()
def test_the_norm_over_a_tile_stays():
    """The statistics of a whole tile are left to PyTorch."""
    network = scrambled(SCUNet(Architecture(width=16, norm="frn")), 0.03)
    x = torch.rand(1, 1, 48, 48, 48)
    expected = network(x)
    assert rms(fused(network)(x) - expected) < 1e-5 * rms(expected)


@torch.inference_mode()
def test_nothing_has_to_be_kept_on_disk(monkeypatch):
    """A read-only installation of a user without a home: the loops are compiled in every run."""
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    loop = norm_loop.__wrapped__(4)
    monkeypatch.setattr("cryoready.network.fused.norm_loop", lambda channels: loop)
    layer = scrambled(VoxelNorm(4))
    x = torch.randn(1, 4, 3, 4, 5)
    torch.testing.assert_close(only(layer)(x), layer(x), rtol=1e-5, atol=1e-5)
