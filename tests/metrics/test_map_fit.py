"""Known motions of a map are found again; other maps are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.core.rigid import IDENTITY
from cryoready.core.volume import Grid, Volume
from cryoready.density.simulate import simulate_density
from cryoready.files.maps import read_map
from cryoready.metrics.map_fit import refine_rigid, resample_rigid
from rigid_motions import after, difference, motion

SMALL = Path(__file__).parents[2] / "resources" / "small"
TARGETS = [
    Grid((60, 60, 60), np.ones(3), np.full(3, -30.0)),
    Grid((61, 48, 55), np.array([0.9, 1.2, 1.1]), np.array([-27.0, -29.0, -31.0])),
    Grid((31, 36, 33), np.full(3, 1.8), np.array([-28.5, -31.0, -29.2])),
]


def centre(volume):
    return volume.origin + volume.voxel_size * (np.array(volume.data.shape) - 1) / 2


@pytest.mark.parametrize("target", TARGETS)
def test_a_moved_map_is_the_map_of_the_moved_atoms(target):
    """Density simulated from atoms commutes with the motion, on finer and on coarser grids."""
    rng = np.random.default_rng(1)
    coords = rng.uniform(-12, 12, (30, 3)) + np.array([40.0, -7.0, 100.0])
    source = Grid((50, 47, 52), np.array([1.0, 1.1, 0.95]), np.array([15.3, -33.0, 75.1]))
    body = motion(2, shift=1.0)
    body = replace(body, translation=-body.rotation @ coords.mean(axis=0))
    weight = rng.uniform(1, 3, 30)
    rotated = resample_rigid(simulate_density(coords, weight, 2.2, source), body, target)
    expected = simulate_density(body.apply(coords), weight, 2.2, target)
    error = np.abs(rotated.data - expected.data).max() / expected.data.max()
    assert error < 0.005
    assert rotated.grid.shape == target.shape
    np.testing.assert_array_equal(rotated.origin, target.origin)


def test_no_motion_on_the_same_grid_changes_nothing():
    volume = read_map(SMALL / "EMD-2566-9.map.gz")
    same = resample_rigid(volume, IDENTITY, volume.grid)
    np.testing.assert_allclose(same.data, volume.data, atol=1e-4 * volume.data.max())


def test_what_a_coarser_grid_cannot_hold_is_removed():
    """A wave of 3 Å on a grid of 2 Å (Nyquist 4 Å) would come back as one of 6 Å."""
    z = np.arange(96)[:, None, None]
    data = np.broadcast_to(np.cos(2 * np.pi * z / 3), (96, 24, 24))
    volume = Volume(data.astype(np.float32), np.ones(3), np.zeros(3))
    coarse = Grid((48, 12, 12), np.full(3, 2.0), np.zeros(3))
    assert np.abs(resample_rigid(volume, IDENTITY, coarse).data).max() < 1e-3


def copy_elsewhere(volume, body):
    """The map before ``body`` brings it to its place, on an anisotropic, odd grid around it."""
    step = np.array([1.2, 1.4, 1.3])
    nz, ny, nx = np.ceil((volume.voxel_size * volume.data.shape + 20) / step).astype(int).tolist()
    middle = body.inverse().apply(centre(volume)[None])[0]
    corner = middle - step * (np.array([nz, ny, nx]) - 1) / 2
    return resample_rigid(volume, body.inverse(), Grid((nz, ny, nx), step, corner))


@pytest.mark.parametrize(("turn", "shift"), [(0, 0), (4, 2), (9, 5)])
def test_a_map_is_found_again(turn, shift):
    volume = read_map(SMALL / "EMD-2566-9.map.gz")
    body = motion(7, turn=turn, shift=shift, about=centre(volume))
    found = refine_rigid(copy_elsewhere(volume, body), volume)
    degrees, apart = difference(found.body, body, centre(volume))
    assert degrees < 0.2
    assert apart < 0.05
    assert found.correlation > 0.995
    assert found.correlation >= found.correlation_before
    assert np.linalg.det(found.body.rotation) == pytest.approx(1)


def test_a_map_is_found_from_a_given_start():
    """25° and 30 Å away, but the start (of a superposed model, say) is 3° and 1.5 Å off."""
    volume = read_map(SMALL / "EMD-2566-9.map.gz")
    body = motion(3, turn=25, shift=30, about=centre(volume))
    off = motion(4, turn=3, shift=1.5, about=centre(volume))
    found = refine_rigid(copy_elsewhere(volume, body), volume, after(body, off))
    degrees, apart = difference(found.body, body, centre(volume))
    assert degrees < 0.2
    assert apart < 0.05


def test_a_part_is_found_in_the_whole():
    """Half of the molecule is missing from the reference."""
    volume = read_map(SMALL / "EMD-2566-9.map.gz")
    body = motion(9, turn=4, shift=2, about=centre(volume))
    part = replace(volume, data=np.where(np.indices(volume.data.shape)[1] < 26, volume.data, 0))
    found = refine_rigid(copy_elsewhere(part, body), volume)
    degrees, apart = difference(found.body, body, centre(volume))
    assert degrees < 1
    assert apart < 0.5


def test_another_map_is_refused_in_one_line():
    volume, other = (read_map(SMALL / f"EMD-{n}.map.gz") for n in ("2566-9", "5830-A"))
    other = replace(other, origin=other.origin + centre(volume) - centre(other))
    with pytest.raises(CryoreadyError, match=r"does not fit: its correlation at 7 Å") as error:
        refine_rigid(other, volume)
    assert "\n" not in str(error.value)


def test_a_map_elsewhere_is_refused_in_one_line():
    volume = read_map(SMALL / "EMD-5830-A.map.gz")
    with pytest.raises(CryoreadyError, match="move it there") as error:
        refine_rigid(replace(volume, origin=volume.origin + 500), volume)
    assert "\n" not in str(error.value)
