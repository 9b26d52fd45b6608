"""The network against the published one, and its symmetries."""

import json
from dataclasses import asdict
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from cryoready.network.scunet import (
    Architecture,
    FilterResponseNorm,
    SCUNet,
    SwinConvBlock,
    VoxelNorm,
    WindowAttention,
    WindowTransformer,
    _Roll,
    cut_windows,
    join_windows,
    mixed_with_input,
)

PRECISION = {torch.float64: 3e-8, torch.float32: 1e-6}  # the reference is stored as float32


def relative_rms(result: torch.Tensor, reference: np.ndarray) -> float:
    difference = result.double() - torch.from_numpy(reference).double()
    return float(difference.norm() / np.linalg.norm(reference.astype(np.float64)))


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Weights as after a training: no zeros, no ones, attention far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        scale = 0.3 if parameter.ndim != 5 or parameter.shape[0] == 1 else fan_in**-0.5
        if not name.endswith("eps"):
            parameter.data.add_(scale * noise)


# -- the published network -----------------------------------------------------------------------


def test_tensor_names_and_shapes_are_the_published_ones(published_shapes):
    state = SCUNet().state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == published_shapes
    assert sum(tensor.numel() for tensor in state.values()) == 4_729_084


@pytest.mark.parametrize("dtype", PRECISION)
def test_whole_network_reproduces_the_published_one(dtype, published_weights, golden_input, golden):
    network = SCUNet().eval()
    network.load_state_dict(published_weights)
    with torch.no_grad():
        output = network.to(dtype)(golden_input.to(dtype))
    assert output.shape == golden_input.shape
    assert output.dtype == dtype
    assert relative_rms(output[0, 0], golden["output"]) <= PRECISION[dtype]


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("kind", ["W", "SW"])
def test_a_block_reproduces_the_published_one(
    kind, dtype, block_weights, golden_block_input, golden
):
    block = SwinConvBlock(Architecture(), 64, shifted=kind == "SW")
    block.load_state_dict(block_weights)
    with torch.no_grad():
        output = block.to(dtype)(golden_block_input.to(dtype))
    assert relative_rms(output[0], golden[kind]) <= PRECISION[dtype]


def test_bfloat16_autocast_stays_near_the_published_output(
    block_weights, golden_block_input, golden
):
    block = SwinConvBlock(Architecture(), 64, shifted=True)
    block.load_state_dict(block_weights)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = block(golden_block_input)
    assert relative_rms(output[0], golden["SW"]) < 2**-6  # some ten roundings of 2^-9 each


# -- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "shape"), [(3, (3, 6, 9)), (2, (4, 2, 6)), (5, (5, 5, 10))])
def test_joining_the_cut_windows_restores_the_grid(window, shape):
    t = torch.randn(2, *shape, 4)
    assert torch.equal(join_windows(cut_windows(t, window), window), t)


def test_tokens_of_a_window_are_its_voxels_in_c_order():
    t = torch.arange(6**3).reshape(1, 6, 6, 6, 1)
    second_along_x = cut_windows(t, 3)[0, 0, 0, 1, :, 0]
    assert second_along_x.tolist() == t[0, :3, :3, 3:6, 0].flatten().tolist()


@pytest.mark.parametrize("shift", [1, -1, 2, -2])
def test_roll_is_torch_roll_and_its_gradient_the_roll_back(shift):
    t = torch.randn(2, 3, 4, 6, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.randn_like(t)
    rolled = _Roll.apply(t, shift)
    assert torch.equal(rolled, t.roll((shift,) * 3, (1, 2, 3)))
    (gradient,) = torch.autograd.grad((rolled * weights).sum(), t)
    assert torch.equal(gradient, weights.roll((-shift,) * 3, (1, 2, 3)))


NEIGHBOURS = {  # along one axis of 9 voxels, window 3: which voxels each voxel may attend to
    0: [range(3), range(3, 6), range(6, 9)],
    1: [range(1), range(1, 4), range(4, 7), range(7, 9)],  # 0 wraps round to 7, 8: kept apart
}


@pytest.mark.parametrize("shift", NEIGHBOURS)
@pytest.mark.parametrize("voxel", [(0, 4, 8), (0, 0, 0), (8, 8, 8), (7, 0, 5), (3, 2, 1)])
def test_a_voxel_sees_its_window_and_never_the_opposite_border(shift, voxel):
    transformer = WindowTransformer(Architecture(), 16, shift=shift).double()
    randomise(transformer)
    x = torch.randn(1, 16, 9, 9, 9, dtype=torch.float64, requires_grad=True)
    z, y, k = voxel
    (gradient,) = torch.autograd.grad(transformer(x)[0, :, z, y, k].square().sum(), x)
    seen = {tuple(index) for index in gradient[0].abs().sum(0).nonzero().tolist()}
    along = [next(set(part) for part in NEIGHBOURS[shift] if i in part) for i in voxel]
    assert seen == set(product(*along))


def shifts(network: SCUNet) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for name, module in network.named_modules():
        if isinstance(module, WindowTransformer):
            found.setdefault(name.split(".")[0], []).append(module.shift)
    return found


def test_every_second_block_is_shifted_unless_the_window_covers_the_stage():
    assert set(map(tuple, shifts(SCUNet(Architecture(width=8))).values())) == {(0, 1)}
    small = shifts(SCUNet(Architecture(width=8, box=24)))  # body: 24 / 8 = 3 voxels, one window
    assert small.pop("m_body") == [0, 0]
    assert set(map(tuple, small.values())) == {(0, 1)}


@pytest.mark.parametrize("steepness", [1, 300])
def test_attention_under_autocast_is_attention(steepness):
    """Also where scores are too large for bare exponentials (steepness 300)."""
    attention = WindowAttention(Architecture(), 32, shift=1)
    randomise(attention)
    attention.relative_position_params.data *= steepness
    t = torch.randn(1, 2, 3, 2, 27, 32)
    with torch.no_grad():
        exact = attention(t)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = attention(t)
    # a score of 64-128 is rounded to the next 0.5, which moves its weight by up to a quarter
    assert relative_rms(rounded, exact.numpy()) < (0.02 if steepness == 1 else 0.1)


# -- normalisation -------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "averaged"), [(FilterResponseNorm, (2, 3, 4)), (VoxelNorm, (1,))])
def test_mean_square_is_one_and_nothing_is_below_the_threshold(norm, averaged):
    x = 7 + 3 * torch.randn(2, 8, 4, 6, 2, dtype=torch.float64)
    layer = norm(8).double()
    layer.tau.data.fill_(-100)
    y = layer(x)
    torch.testing.assert_close(y.square().mean(averaged), torch.ones_like(y.mean(averaged)))
    torch.testing.assert_close(y.sign(), x.sign())
    layer.tau.data.fill_(0.3)
    torch.testing.assert_close(layer(x), y.clamp(min=0.3))


@pytest.mark.parametrize("norm", [FilterResponseNorm, VoxelNorm])
def test_gradients_of_the_normalisation_are_those_of_its_formula(norm):
    layer = norm(3).double()
    randomise(layer)
    x = torch.randn(2, 3, 2, 1, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    axes = (2, 3, 4) if norm is FilterResponseNorm else (1,)
    inverse = torch.rsqrt(x.square().mean(axes, keepdim=True) + layer.eps)
    formula = torch.maximum(layer.gamma * x * inverse + layer.beta, layer.tau)
    weights = torch.randn_like(formula)
    parameters = [layer.gamma, layer.beta, layer.tau]
    torch.testing.assert_close(
        torch.autograd.grad((layer(x) * weights).sum(), parameters),
        torch.autograd.grad((formula * weights).sum(), parameters),
    )


# -- the network as a function of space ----------------------------------------------------------

# how far a voxel sees, in voxels: a block reaches 2 of its stage (two 3³ convolutions, or a window
# of 3), two blocks per stage: 4(1+2+4) down, 4·8 body, 4(4+2+1) up, head and tail 1 each, and up
# to 7 where 2³ cells do not line up; together 97
REACH = 104


def shifted_difference(norm: str, offset: int) -> float:
    """Largest change of the output of width 8 inside when the tile moves, over its deviation."""
    torch.manual_seed(0)
    network = SCUNet(Architecture(width=8, norm=norm))
    randomise(network)
    length = 2 * REACH + 56  # a multiple of 24, and 32 planes and more are out of reach of ends
    x = torch.rand(1, 1, length + offset, 24, 24) * 100
    x *= torch.linspace(0.1, 1, length + offset)[:, None, None]
    with torch.no_grad():
        here, there = network(x[:, :, :length]), network(x[:, :, offset:])
    inside = slice(REACH + offset, length - REACH)
    moved = slice(REACH, length - REACH - offset)
    difference = here[:, :, inside] - there[:, :, moved]
    return float(difference.abs().max() / here[:, :, inside].std())


def test_with_voxel_norm_the_tile_may_move_by_a_window_of_the_body():
    assert shifted_difference("voxel", 24) < 1e-4


def test_a_move_by_less_cuts_other_windows():
    assert shifted_difference("voxel", 12) > 1e-2


def test_with_filter_response_norm_every_tile_gives_another_result():
    assert shifted_difference("frn", 24) > 1e-3


@pytest.mark.parametrize("norm", ["frn", "voxel"])
def test_samples_of_a_batch_do_not_mix(norm):
    network = SCUNet(Architecture(width=8, norm=norm)).double()
    randomise(network)
    x = torch.rand(2, 1, 24, 24, 24, dtype=torch.float64) * 100
    with torch.no_grad():
        torch.testing.assert_close(network(x)[1:], network(x[1:]), rtol=1e-10, atol=1e-10)


def test_scale_moves_the_unit_inside_only():
    network = SCUNet(Architecture(width=8, scale=100.0)).double()
    plain = SCUNet(Architecture(width=8)).double()
    plain.load_state_dict(network.state_dict())
    x = torch.rand(1, 1, 24, 24, 24, dtype=torch.float64) * 100
    with torch.no_grad():
        torch.testing.assert_close(network(x), 100 * plain(x / 100))


def test_a_training_starts_with_an_output_of_the_size_of_the_input():
    torch.manual_seed(1)
    network = SCUNet(Architecture(width=16, norm="voxel", scale=100.0))
    x = torch.rand(1, 1, 24, 24, 24) * 100
    with torch.no_grad():
        ratio = network(x).std() / x.std()
    assert 0.2 < ratio < 10


def test_a_skip_starts_with_the_input_unchanged():
    network = SCUNet(Architecture(width=8, skip=True))
    x = torch.rand(1, 1, 24, 24, 24) * 100
    with torch.no_grad():
        torch.testing.assert_close(network(x), x)


@pytest.mark.parametrize("skip", [False, True])
def test_a_share_of_the_input_can_be_mixed_into_weights(skip):
    network = SCUNet(Architecture(width=8, norm="voxel", scale=100.0, skip=skip))
    randomise(network)
    x = torch.rand(1, 1, 24, 24, 24) * 100
    with torch.no_grad():
        expected = 0.3 * x + 0.7 * network(x)
        mixed = mixed_with_input(network, share=0.3)
        assert relative_rms(mixed(x), expected.numpy()) < 1e-4


def receptive_field(branches):
    """Voxels of the output of one block that feel one voxel of its input."""
    block = SwinConvBlock(Architecture(width=8, norm="voxel", branches=branches), 8, shifted=False)
    randomise(block)
    x = torch.rand(1, 8, 9, 9, 9)
    moved = x.clone()
    moved[:, :, 4, 4, 3] += 1  # the first voxel of its window along x
    with torch.no_grad():
        felt = (block(moved) - block(x)).abs().amax((0, 1)) > 1e-6
    return felt


def test_branches_differ_in_what_a_voxel_sees():
    convolution, attention = (receptive_field(kind) for kind in ("convolution", "attention"))
    window = torch.zeros(9, 9, 9, dtype=torch.bool)
    window[3:6, 3:6, 3:6] = True
    assert torch.equal(attention, window)
    near = torch.zeros(9, 9, 9, dtype=torch.bool)
    near[2:7, 2:7, 1:6] = True  # two 3x3x3 convolutions
    assert torch.equal(convolution, near)
    assert torch.equal(receptive_field("both"), window | near)


@pytest.mark.parametrize("branches", ["both", "convolution", "attention"])
def test_every_weight_learns_except_eps(branches):
    network = SCUNet(Architecture(width=8, norm="voxel", branches=branches, skip=True))
    randomise(network)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(torch.rand(2, 1, 48, 24, 24) * 100)
    output.float().square().mean().backward()
    still = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert {name.split(".")[-1] for name in still} == (
        {"eps"} if branches != "attention" else set()
    )
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


# -- architecture --------------------------------------------------------------------------------


def test_architecture_survives_json():
    a = Architecture(width=16, norm="voxel", scale=100.0, box=72)
    assert Architecture(**json.loads(json.dumps(asdict(a)))) == a


def test_a_stage_narrower_than_a_head_has_one_head():
    network = SCUNet(Architecture(width=16))
    heads = [m.heads for m in network.modules() if isinstance(m, WindowAttention)]
    assert heads == [1, 1, 1, 1, 2, 2, 4, 4, 2, 2, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": 0}, "width"),
        ({"width": 15}, "width 15"),
        ({"width": 24}, "head_dim 16"),
        ({"blocks": 1.5}, "blocks"),
        ({"blocks": True}, "blocks"),
        ({"norm": "batch"}, "norm"),
        ({"branches": "none"}, "branches must be one of both"),
        ({"box": 50}, "multiple of 24"),
        ({"scale": 0.0}, "scale"),
        ({"scale": float("nan")}, "scale"),
    ],
)
def test_impossible_architectures_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        Architecture(**change)


@pytest.mark.parametrize("shape", [(1, 1, 48, 48, 50), (1, 2, 24, 24, 24), (1, 24, 24, 24)])
def test_inputs_that_do_not_fit_are_refused(shape):
    network = SCUNet(Architecture(width=8))
    assert network.multiple == 24
    with pytest.raises(ValueError, match="multiples of 24 voxels, got"):
        network(torch.zeros(shape))
