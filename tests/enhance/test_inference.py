"""The way of a map through inference, proven with networks whose answer is known."""

import re
import shutil
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Volume
from cryoready.density.normalise import intensity_scale, normalise
from cryoready.density.resample import resample, spaced_grid
from cryoready.enhance import devices as limits
from cryoready.enhance.inference import enhance, enhance_with
from cryoready.enhance.plan import Settings
from cryoready.enhance.prediction import TURNS
from cryoready.network.scunet import Architecture

CPU = torch.device("cpu")
VOXEL, FRN = (Architecture(norm=norm) for norm in ("voxel", "frn"))
KINDS = {
    "paper": ("paper", FRN),
    "small tiles": ("default", FRN),
    "large tiles": ("default", VOXEL),
}
all_kinds = pytest.mark.parametrize("kind", KINDS)


class Toy(nn.Module):
    """A network that is a function; a SCUNet to those who ask for its sizes."""

    def __init__(self, function=lambda x: x, architecture=FRN):
        super().__init__()
        self.function, self.architecture = function, architecture

    def forward(self, x):
        return self.function(x)


IDENTITY = Toy()


def plus_ten(x):
    return x + 10


def run(volume, network, *, precision="fp32", devices=(CPU,), **options):
    chosen = {key: options.pop(key) for key in vars(Settings()) if key in options}
    settings = Settings(precision=precision, **chosen)
    return enhance(volume, network, settings=settings, devices=devices, **options)


@pytest.fixture
def small_tiles(monkeypatch):
    """No tile has more than 72³ voxels."""
    monkeypatch.setattr(limits, "MOST_TILE_BYTES", 72**3 * limits.TILE_BYTES["fp32"])


def blobs(shape, voxel=1.0, origin=(3.0, -20.0, 7.5), seed=0):
    """Smooth positive density without values above its own 99.999 percentile but one voxel."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    a, b, c = rng.uniform(0.1, 0.3, 3)
    data = 2 + np.sin(a * z) + np.sin(b * y + 1) * np.cos(c * x)
    return Volume(data.astype(np.float32), np.full(3, voxel), np.array(origin))


@all_kinds
@pytest.mark.parametrize("shape", [(60, 61, 72), (50, 48, 96), (20, 31, 12)])
@pytest.mark.usefixtures("small_tiles")
def test_identity_network_returns_a_map_on_the_1_angstrom_grid(kind, shape):
    preset, architecture = KINDS[kind]
    volume = blobs(shape)
    scale = intensity_scale(volume.data)
    inside = Volume.on(volume.grid, np.minimum(volume.data, scale))
    result = run(inside, Toy(architecture=architecture), preset=preset)
    back = result.volume.data / 100 * result.intensity_scale
    limit = np.minimum(inside.data, result.intensity_scale)
    np.testing.assert_allclose(back, limit, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(result.volume.origin, volume.origin)


def test_negative_density_passes_by_the_network_as_far_as_wanted():
    """Where nothing is positive, half of the input's negative density is left."""
    volume = blobs((60, 61, 72))
    signed = Volume.on(volume.grid, volume.data - 2)
    result = run(signed, IDENTITY, negatives=0.5)
    relative = signed.data / result.intensity_scale
    expected = 100 * np.where(relative > 0, relative.clip(0, 1), relative.clip(-1, 0) / 2)
    np.testing.assert_allclose(result.volume.data, expected, atol=1e-3)
    assert run(signed, IDENTITY).volume.data.min() == 0


@pytest.mark.parametrize("voxel", [0.83, 1.05, 1.4])
def test_other_maps_equal_the_clip_and_resample_round_trip(voxel):
    volume = blobs((64, 55, 70), voxel)
    grid = spaced_grid(volume.grid, 1.0)
    density = resample(volume, grid)
    expected = normalise(density.data, intensity_scale(density.data)) * 100
    result = run(volume, IDENTITY)
    np.testing.assert_allclose(result.network_volume.data, expected, atol=1e-4)
    there_and_back = resample(Volume.on(grid, expected), volume.grid)
    np.testing.assert_allclose(result.volume.data, there_and_back.data.clip(0, 100), atol=1e-3)
    assert result.volume.grid.shape == volume.grid.shape
    np.testing.assert_array_equal(result.volume.voxel_size, volume.voxel_size)


class TowardsLastAxis(nn.Module):
    """A network that is not equivariant: it adds a ramp along x."""

    def forward(self, x):
        return x + torch.arange(x.shape[-1], dtype=x.dtype)


def test_averaging_over_all_rotations_cancels_a_preferred_direction():
    """One box of constant density: the ramp averages to the same value along every axis."""
    volume = Volume(np.full((48, 48, 48), 5.0, dtype=np.float32), np.ones(3), np.zeros(3))
    volume.data[0, 0, :4] = 20.0  # these set the scale, so that the ramp is not clipped
    turned = run(volume, TowardsLastAxis(), tta=24).volume.data
    profile = [turned.mean(axis=tuple({0, 1, 2} - {k}))[5:-5] for k in range(3)]
    np.testing.assert_allclose(profile[0], profile[2], atol=0.2)
    assert np.ptp(profile[2]) < 1
    straight = run(volume, TowardsLastAxis(), tta=0).volume.data
    assert np.ptp(straight.mean(axis=(0, 1))[5:-5]) > 30


@pytest.mark.parametrize("count", [0, 4, 24])
@pytest.mark.parametrize("architecture", [VOXEL, FRN], ids=["voxel", "frn"])
def test_identity_survives_every_number_of_turns(count, architecture):
    """Tiles that are no cubes change their shape with a turn."""
    volume = blobs((30, 50, 75))
    reference = run(volume, IDENTITY).volume.data
    turned = run(volume, Toy(architecture=architecture), tta=count).volume.data
    np.testing.assert_allclose(turned, reference, atol=1e-4)


def test_the_turns_start_with_no_turn_and_are_groups():
    assert [len(TURNS[count]) for count in (0, 4, 24)] == [1, 4, 24]
    cube = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    for turns in TURNS.values():
        images = {turn.apply(cube).tobytes() for turn in turns}
        for first in turns:
            assert {second.apply(first.apply(cube)).tobytes() for second in turns} == images
    assert TURNS[0][0].axes == (0, 1, 2)
    assert TURNS[0][0].flips == ()


def test_the_paper_passes_over_boxes_without_density():
    data = np.zeros((48, 48, 144), dtype=np.float32)
    data[20:28, 20:28, 4:12] = np.random.default_rng(0).uniform(1, 2, (8, 8, 8))
    result = run(Volume(data, np.ones(3), np.zeros(3)), Toy(plus_ten), preset="paper")
    assert (len(result.layout.corners), result.layout.skipped) == (1, 8)
    assert result.volume.data[:, :, 48:].max() == 0
    assert result.volume.data[:, :, :48].min() == 10


@pytest.mark.parametrize("architecture", [VOXEL, FRN], ids=["voxel", "frn"])
@pytest.mark.parametrize("negatives", [0.0, 0.5])
def test_empty_space_is_skipped_and_stays_zero(architecture, negatives):
    """Far from all density; near it the result is that without skipping."""
    data = np.zeros((96, 120, 150), dtype=np.float32)
    data[50:66, 50:66, 50:66] = np.random.default_rng(0).uniform(-1, 2, (16, 16, 16))
    data[2, 2, 140] = -1e-4
    volume = Volume(data, np.ones(3), np.zeros(3))
    network = Toy(plus_ten, architecture)
    skipped = run(volume, network, negatives=negatives)
    everything = run(volume, network, negatives=negatives, skip_empty=False)
    assert skipped.layout.voxels < everything.layout.voxels / 2
    assert everything.volume.data[data == 0].min() == pytest.approx(10)
    np.testing.assert_array_equal(skipped.volume.data[:, :, 120:], 0)
    near = (slice(48, 72),) * 3
    np.testing.assert_allclose(skipped.volume.data[near], everything.volume.data[near], rtol=1e-5)


@pytest.mark.usefixtures("small_tiles")
def test_a_local_network_makes_the_same_map_of_tiles_and_of_the_whole():
    """Exactly, but for the 2 voxels at faces of tiles that it looks beyond; these count little."""
    torch.manual_seed(0)
    layers = [nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 1, 3, padding=1)]
    network = Toy(nn.Sequential(*layers).requires_grad_(False), VOXEL)
    volume = blobs((100, 75, 96))
    result = run(volume, network, skip_empty=False)
    density = normalise(volume.data, result.intensity_scale) * 100
    whole = network(torch.from_numpy(density)[None, None])[0, 0].clamp(0, 100).numpy()
    assert np.ptp(whole) > 10
    deviation = np.abs(result.volume.data - whole)
    assert len(result.layout.corners) > 4
    inner = np.ones(density.shape, dtype=bool)
    for k, starts in enumerate(result.layout.tiling.starts(density.shape)):
        ends = [start + result.layout.tiling.shape[k] for start in starts]
        for face in {*starts, *ends, density.shape[k]} - {0}:
            np.moveaxis(inner, k, 0)[face - 2 : face + 2] = False
    assert inner.mean() > 0.5
    assert deviation[inner].max() < 1e-4 * np.ptp(whole)
    last = np.array(density.shape) - 2  # what hangs over the end are zeros, as for the whole map
    assert deviation[: last[0], : last[1], : last[2]].max() < 0.02 * np.ptp(whole)


@pytest.mark.usefixtures("small_tiles")
def test_any_number_of_devices_makes_the_same_map():
    volume = blobs((100, 75, 150))
    network = Toy(torch.sqrt, VOXEL)
    one = run(volume, network)
    assert len(one.layout.corners) > 5
    for count in (2, 5):
        several = run(volume, network, devices=[CPU] * count)
        np.testing.assert_array_equal(several.volume.data, one.volume.data)


def test_too_large_batches_are_halved_and_the_map_is_the_same():
    def at_most_two(x):
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return x.sqrt()

    volume, lines = blobs((60, 60, 72)), []
    halved = run(volume, Toy(at_most_two), batch_size=8, report=lines.append)
    assert halved.batch_size == 2
    assert len([line for line in lines if "at a time from here on" in line]) == 2
    two = run(volume, Toy(torch.sqrt), batch_size=2)
    np.testing.assert_array_equal(halved.volume.data, two.volume.data)


def through(offset):
    """A network that adds ``offset`` and takes it away again."""
    to, fro = nn.Conv3d(1, 1, 1), nn.Conv3d(1, 1, 1)
    for layer, bias in ((to, offset), (fro, -offset)):
        nn.init.ones_(layer.weight)
        nn.init.constant_(layer.bias, bias)
    return Toy(nn.Sequential(to, fro))


@pytest.mark.parametrize(("offset", "precision"), [(10.0, "bf16"), (1e4, "fp32")])
def test_a_precision_that_does_not_suffice_is_left(offset, precision):
    """bf16 has 8 bits: the offset is rounded by up to 2⁻⁹ of itself, 0.2 or 20 of 100."""
    lines = []
    result = run(blobs((50, 60, 70)), through(offset), precision="bf16", report=lines.append)
    assert result.precision == precision
    assert any("the network runs in fp32" in line for line in lines) == (precision == "fp32")
    assert f" in {precision}; " in lines[-1]


def test_values_that_are_not_finite_in_a_lower_precision_are_noticed():
    def overflow(x):
        return x * torch.nan if torch.is_autocast_enabled("cpu") else x

    assert run(blobs((50, 60, 70)), Toy(overflow), precision="bf16").precision == "fp32"


@pytest.mark.parametrize(("voxel", "arrays"), [(1.0, 2), (1.25, 3)])
def test_only_copy_sum_and_weights_are_as_large_as_the_map(voxel, arrays, monkeypatch):
    """NumPy's arrays beside the input, in sizes of the map of 1 Å; a half for tiles and others."""
    monkeypatch.setattr(limits, "MOST_TILE_BYTES", 0)  # tiles of 48³
    n = round(191 / voxel) + 1
    volume = blobs((n, n, n), voxel)
    tracemalloc.start()
    try:
        run(volume, Toy(architecture=VOXEL))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (arrays + 0.5) * 192**3 * 4


def test_the_mask_acts_before_the_network():
    volume = blobs((48, 48, 60))
    mask = np.zeros(volume.data.shape, dtype=np.float32)
    mask[:, :, :30] = 1
    result = run(volume, IDENTITY, mask=mask)
    assert result.volume.data[:, :, 30:].max() == 0
    assert result.volume.data[:, :, :30].min() > 0


def test_nothing_is_left_outside_of_the_mask():
    volume = blobs((48, 50, 52), 1.2)
    mask = np.zeros(volume.data.shape, dtype=np.float32)
    mask[10:40, 10:40, 10:40] = 1
    result = run(volume, Toy(plus_ten), mask=mask)
    assert result.volume.data[mask == 0].max() == 0
    assert result.volume.data[mask == 1].min() > 5
    assert result.network_volume.data[:10].max() == 0


def test_a_map_without_positive_voxels_is_refused():
    noise = -(np.random.default_rng(0).random((30, 30, 30), dtype=np.float32) ** 4)
    volume = Volume(noise, np.full(3, 1.3), np.zeros(3))  # its spline overshoots above 0
    with pytest.raises(CryoreadyError, match="no positive voxel"):
        run(volume, IDENTITY)


@pytest.mark.usefixtures("small_tiles")
def test_reported_line_states_tiles_memory_and_time():
    lines = []
    run(blobs((60, 72, 150)), Toy(architecture=VOXEL), report=lines.append)
    assert lines[0].startswith("60x72x150 voxels of 1 Å: 3 tiles of 72x72x72 (0% of the map")
    assert re.search(r"; needs about \d+\.\d GB \(host\) and \d+ s$", lines[0])


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("default")  # of the compiler's own modules
def test_a_compiled_network_gives_the_same_map():
    volume = blobs((24, 30, 24))
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.GELU(), nn.Conv3d(4, 1, 1))
    network.architecture = VOXEL
    expected = run(volume, network).volume.data
    result = run(volume, network, compiled=True).volume.data
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.filterwarnings("default")
def test_a_lacking_compiler_is_named(monkeypatch):
    config = pytest.importorskip("torch._inductor.config")
    monkeypatch.setattr(config.cpp, "cxx", (None, "no-such-compiler"))
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.GELU(), nn.Conv3d(2, 1, 1))
    with pytest.raises(CryoreadyError, match=r"inference.compiled: torch.compile fails here \(.+"):
        run(blobs((24, 24, 24)), network, compiled=True)


def test_weights_of_another_convention_are_refused():
    card = SimpleNamespace(intensity="other", name="theirs", grid=1.0, negatives=0.0)
    options = {"settings": Settings(), "mask": None, "threads": 1, "gpus": 0, "report": print}
    with pytest.raises(CryoreadyError, match="weights 'theirs' expect intensities by 'other'"):
        enhance_with(card, blobs((24, 24, 24)), IDENTITY, **options)
