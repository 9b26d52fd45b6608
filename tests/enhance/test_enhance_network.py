"""A real network on its way through inference on a CPU: tiles, fused layers, memory."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoready.core.boxes import cut_box
from cryoready.core.volume import Volume
from cryoready.density.normalise import intensity_scale, normalise
from cryoready.enhance.inference import enhance
from cryoready.enhance.plan import Settings
from cryoready.network.fused import fused
from cryoready.network.scunet import Architecture, SCUNet

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from inference import published
from plain_scunet import PlainSCUNet

both_norms = pytest.mark.parametrize("norm", ["voxel", "frn"])


def sized(**others):
    """Activations are about 1, so that no layer is lost beside the trunk."""
    return Architecture(**{"width": 16, "norm": "voxel", "skip": True, "scale": 100.0} | others)


ABLATIONS = {
    "4 channels": sized(width=8),
    "windows of 2": sized(window=2, box=48),
}


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scrambled(architecture):
    """A network with parameters that are none of them zero; few of its values need clipping."""
    torch.manual_seed(0)
    network = SCUNet(architecture)
    with torch.no_grad():
        for p in filter(lambda p: p.requires_grad, network.parameters()):
            p.add_(torch.randn(p.shape), alpha=0.03)
        network.m_tail[0].weight.mul_(0.2)
        network.skip.copy_(0.7)
    return network.eval()


def small(**others):
    return scrambled(sized(**others))


def plain(network):
    """The same function, written down plainly."""
    other = PlainSCUNet(network.architecture).eval()
    other.load_state_dict(network.state_dict())
    return other


def on_grid(data):
    return Volume(data.astype(np.float32), np.ones(3), np.array([3.0, -20.0, 7.5]))


def noise(shape, low=-0.5, seed=0):
    """Density from ``low`` to 1 without any symmetry."""
    return np.random.default_rng(seed).uniform(low, 1, shape).astype(np.float32)


def run(data, network, **settings):
    settings = Settings(device="cpu", precision="fp32", **settings)
    return enhance(on_grid(data), network, settings=settings)


@torch.inference_mode()
def directly(data, network):
    """The map in a single tile, as large as the windows ask for."""
    multiple = network.architecture.multiple
    shape = tuple(-(-n // multiple) * multiple for n in data.shape)
    tile = cut_box(normalise(data, intensity_scale(data)), (0, 0, 0), shape)
    y = network(100 * torch.from_numpy(tile)[None, None])[0, 0].clamp(0, 100).numpy()
    return y[tuple(slice(n) for n in data.shape)]


def assert_close(result, expected, share):
    """To ``share`` of the range, and neither of them flat."""
    assert np.ptp(expected) > 10
    assert np.abs(result - expected).max() < share * np.ptp(expected)


@both_norms
@torch.inference_mode()
def test_the_plain_network_is_the_same_function(norm):
    """Two blocks: windows at the grid of the tile, and shifted ones that wrap around it."""
    network = small(norm=norm)
    x = 100 * torch.from_numpy(noise((2, 1, 24, 48, 24), low=0))
    expected = plain(network)(x).numpy()
    assert_close(network(x).numpy(), expected, 1e-5)
    assert np.abs(expected - x.numpy()).max() > 10


@both_norms
def test_the_preset_paper_is_the_published_loop(norm):
    """An axis shorter than a box, one as long, and one whose last box begins off the stride."""
    network = small(norm=norm, blocks=1)
    data = noise((44, 48, 61))
    expected, seen, _ = published(data, plain(network), 1)
    result = run(data, network, preset="paper")
    assert len(result.layout.corners) == seen == 3
    assert_close(result.volume.data, expected, 1e-4)


def test_a_map_in_a_single_tile_is_what_the_network_makes_of_it():
    network = small()
    data = noise((40, 48, 61))
    result = run(data, network)
    assert len(result.layout.corners) == 1
    assert_close(result.volume.data, directly(data, plain(network)), 1e-4)


@pytest.mark.parametrize("kind", ABLATIONS)
def test_ablations_pass_through_the_fused_layers(kind):
    network = scrambled(ABLATIONS[kind])
    data = noise((32, 48, 60))
    expected = directly(data, network)
    assert_close(directly(data, fused(network)), expected, 1e-5)
    assert_close(run(data, network).volume.data, expected, 1e-5)


def test_skipping_empty_space_leaves_the_molecule_as_it_is():
    """The windows lie where they would without; 4 voxels aside the result is another."""
    network = small()
    inside = (slice(52, 66), slice(54, 68), slice(53, 70))
    data = np.zeros((96, 96, 96), dtype=np.float32)
    data[inside] = noise((14, 14, 17), low=0)
    skipped, everything = (run(data, network, skip_empty=skip) for skip in (True, False))
    assert [len(way.layout.corners) for way in (skipped, everything)] == [1, 1]
    assert [part.start for part in skipped.layout.region] == [24, 24, 24]
    aside = run(data[4:, 4:, 4:], network).volume.data
    there = tuple(slice(part.start - 4, part.stop - 4) for part in inside)
    expected = everything.volume.data[inside]
    assert np.abs(skipped.volume.data[inside] - expected).max() < 2
    assert np.abs(aside[there] - expected).max() > 50


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("masked", [False, True])
def test_map_and_mask_stay_as_they_were(preset, masked):
    """On a grid of 1 Å nothing is resampled, and arrays are handed on."""
    data = noise((30, 24, 26))
    mask = (noise(data.shape, seed=1) > 0).astype(np.float32) if masked else None
    volume = on_grid(data)
    before = volume.data.copy(), None if mask is None else mask.copy()
    settings = Settings(preset=preset, device="cpu", precision="fp32")
    result = enhance(volume, small(blocks=1), settings=settings, negatives=0.5, mask=mask)
    np.testing.assert_array_equal(volume.data, before[0])
    np.testing.assert_array_equal(mask, before[1])
    assert not np.may_share_memory(result.volume.data, volume.data)


def test_threads_share_a_network():
    """Each gets bit for bit what it gets alone."""
    network = fused(small())
    tiles = [100 * torch.from_numpy(noise((1, 1, 24, 24, 48), seed=k)) for k in range(6)]

    @torch.inference_mode()
    def enhanced(tile):
        return network(tile)

    alone = [enhanced(tile) for tile in tiles]
    with ThreadPoolExecutor(3) as pool:
        for result, expected in zip(pool.map(enhanced, tiles), alone, strict=True):
            assert torch.equal(result, expected)


PEAK = """
import json, sys
import numpy as np, torch
from cryoready.core.volume import Volume
from cryoready.enhance.inference import enhance
from cryoready.enhance.plan import Settings
from cryoready.network.scunet import Architecture, SCUNet

torch.set_num_threads(1)
network = SCUNet(Architecture(width=16, norm="voxel", skip=True))
data = np.random.default_rng(0).uniform(1, 2, (120, 120, 120)).astype(np.float32)
settings = Settings(device="cpu", precision=sys.argv[1])
result = enhance(Volume(data, np.ones(3), np.zeros(3)), network, settings=settings)
print(json.dumps([result.precision, result.expected["host"], result.peak["host"]]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured on Linux")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_predicted_memory_is_what_a_process_needs(precision):
    """Started by a shell: a process that another one starts begins with the peak of that one."""
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", PEAK, precision]
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    used, expected, peak = json.loads(out.splitlines()[-1])
    assert used == precision
    assert expected == pytest.approx(peak, rel=0.35)
