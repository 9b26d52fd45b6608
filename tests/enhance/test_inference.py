"""The way of a map through inference, proven with networks whose answer is known."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from cryoready.core.boxes import pad_to_edge
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Volume
from cryoready.density.normalise import intensity_scale, normalise
from cryoready.density.resample import resample, spaced_grid
from cryoready.enhance.inference import TURNS, enhance
from cryoready.enhance.tiles import PRESETS, Tiling, box_weight, occupied_corners

CPU = torch.device("cpu")
PRESET_NAMES = sorted(PRESETS)


def run(volume, network, tiling=PRESETS["default"], **options):
    return enhance(volume, network, tiling=tiling, device=CPU, batch_size=4, **options)


def blobs(shape, voxel=1.0, origin=(3.0, -20.0, 7.5), seed=0):
    """Smooth positive density without values above its own 99.999 percentile but one voxel."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    a, b, c = rng.uniform(0.1, 0.3, 3)
    data = 2 + np.sin(a * z) + np.sin(b * y + 1) * np.cos(c * x)
    return Volume(data.astype(np.float32), np.full(3, voxel), np.array(origin))


@pytest.mark.parametrize("preset", PRESET_NAMES)
@pytest.mark.parametrize("shape", [(60, 61, 72), (50, 48, 96)])
def test_identity_network_returns_a_map_on_the_1_angstrom_grid(preset, shape):
    volume = blobs(shape)
    scale = intensity_scale(volume.data)
    inside = Volume.on(volume.grid, np.minimum(volume.data, scale))
    result = run(inside, nn.Identity(), PRESETS[preset])
    back = result.volume.data / 100 * result.intensity_scale
    limit = np.minimum(inside.data, result.intensity_scale)
    np.testing.assert_allclose(back, limit, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(result.volume.origin, volume.origin)


def test_negative_density_passes_by_the_network_as_far_as_wanted():
    """Where nothing is positive, half of the input's negative density is left."""
    volume = blobs((60, 61, 72))
    signed = Volume.on(volume.grid, volume.data - 2)
    result = run(signed, nn.Identity(), negatives=0.5)
    relative = signed.data / result.intensity_scale
    expected = 100 * np.where(relative > 0, relative.clip(0, 1), relative.clip(-1, 0) / 2)
    np.testing.assert_allclose(result.volume.data, expected, atol=1e-3)
    assert run(signed, nn.Identity()).volume.data.min() == 0


@pytest.mark.parametrize("voxel", [0.83, 1.05, 1.4])
def test_other_maps_equal_the_clip_and_resample_round_trip(voxel):
    volume = blobs((64, 55, 70), voxel)
    grid = spaced_grid(volume.grid, 1.0)
    density = resample(volume, grid)
    expected = normalise(density.data, intensity_scale(density.data)) * 100
    result = run(volume, nn.Identity())
    np.testing.assert_allclose(result.network_volume.data, expected, atol=1e-4)
    there_and_back = resample(Volume.on(grid, expected), volume.grid)
    np.testing.assert_allclose(result.volume.data, there_and_back.data.clip(0, 100), atol=1e-3)
    assert result.volume.grid.shape == volume.grid.shape
    np.testing.assert_array_equal(result.volume.voxel_size, volume.voxel_size)


def test_a_map_smaller_than_one_box_is_padded():
    volume = blobs((20, 31, 12))
    result = run(volume, nn.Identity())
    assert result.boxes == 1
    assert result.volume.data.shape == (20, 31, 12)
    assert np.corrcoef(result.volume.data.ravel(), volume.data.ravel())[0, 1] > 0.999


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
def test_identity_survives_every_number_of_turns(count):
    volume = blobs((48, 50, 52))
    reference = run(volume, nn.Identity()).volume.data
    np.testing.assert_allclose(
        run(volume, nn.Identity(), tta=count).volume.data, reference, atol=1e-4
    )


def test_the_turns_start_with_no_turn_and_are_groups():
    assert [len(TURNS[count]) for count in (0, 4, 24)] == [1, 4, 24]
    cube = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    for turns in TURNS.values():
        images = {turn.apply(cube).tobytes() for turn in turns}
        for first in turns:
            assert {second.apply(first.apply(cube)).tobytes() for second in turns} == images
    assert TURNS[0][0].axes == (0, 1, 2)
    assert TURNS[0][0].flips == ()


def test_empty_boxes_are_skipped_and_stay_zero():
    data = np.zeros((48, 48, 144), dtype=np.float32)
    data[20:28, 20:28, 4:12] = np.random.default_rng(0).uniform(1, 2, (8, 8, 8))
    volume = Volume(data, np.ones(3), np.zeros(3))

    class PlusTen(nn.Module):
        def forward(self, x):
            return x + 10

    result = run(volume, PlusTen(), Tiling(48, 48, "uniform"))
    assert (result.boxes, result.empty_boxes) == (1, 2)
    assert result.volume.data[:, :, 48:].max() == 0
    assert result.volume.data[:, :, :48].min() == 10


def test_the_mask_acts_before_the_network():
    volume = blobs((48, 48, 60))
    mask = np.zeros(volume.data.shape, dtype=np.float32)
    mask[:, :, :30] = 1
    result = run(volume, nn.Identity(), mask=mask)
    assert result.volume.data[:, :, 30:].max() == 0
    assert result.volume.data[:, :, :30].min() > 0


def test_nothing_is_left_outside_of_the_mask():
    class PlusTen(nn.Module):
        def forward(self, x):
            return x + 10

    volume = blobs((48, 50, 52), 1.2)
    mask = np.zeros(volume.data.shape, dtype=np.float32)
    mask[10:40, 10:40, 10:40] = 1
    result = run(volume, PlusTen(), mask=mask)
    assert result.volume.data[mask == 0].max() == 0
    assert result.volume.data[mask == 1].min() > 5
    assert result.network_volume.data[:10].max() == 0


def test_a_map_without_positive_voxels_is_refused():
    noise = -(np.random.default_rng(0).random((30, 30, 30), dtype=np.float32) ** 4)
    volume = Volume(noise, np.full(3, 1.3), np.zeros(3))  # its spline overshoots above 0
    with pytest.raises(CryoreadyError, match="no positive voxel"):
        run(volume, nn.Identity())


def test_smooth_weights_are_symmetric_positive_and_overlap_to_a_constant():
    weight = box_weight(PRESETS["default"])
    assert weight.min() > 0
    for rotation in TURNS[24]:
        np.testing.assert_allclose(rotation.apply(weight), weight, rtol=1e-5)
    line = weight.sum(axis=(1, 2))
    np.testing.assert_allclose(line[:24] + line[24:], line[0] + line[24], rtol=1e-5)


def test_reported_lines_state_boxes_memory_and_time():
    lines = []
    run(blobs((60, 60, 60)), nn.Identity(), report=lines.append)
    assert "8 boxes of 48³" in lines[0]
    assert re.search(r"needs about \d+\.\d GB and \d+ s$", lines[0])


def test_a_box_with_any_positive_voxel_is_seen():
    density = pad_to_edge(np.zeros((48, 48, 96), dtype=np.float32), 48)
    density[5, 5, 95] = 1e-6
    corners, empty = occupied_corners(density, Tiling(48, 24, "smooth"))
    assert corners == [(0, 0, 48)]
    assert empty == 2
