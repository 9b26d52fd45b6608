"""The picture of a pair shows where the target lies in the map."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from cryoready.core.volume import Volume
from cryoready.report.pair_figure import plot_no_pair, plot_pair


def cubes(shift: int = 0, shape: tuple = (60, 64, 70)) -> tuple[Volume, Volume]:
    """A map with a cube of 16 voxels, and a target with the same cube, moved along x."""
    data = np.zeros((2, *shape), dtype=np.float32)
    data[0, 22:38, 24:40, 30:46] = 1
    data[1, 22:38, 24:40, 30 + shift : 46 + shift] = 1
    first, second = (Volume(one, np.ones(3), np.array([5.0, -3.0, 2.0])) for one in data)
    return first, second


def panels(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(row, column) of the pixels of outline and of bright density in each of the three panels."""
    found = []
    for panel in np.array_split(image.imread(path)[..., :3], 3, axis=1):
        orange = np.argwhere(panel[..., 0] - panel[..., 2] > 0.3)
        low, high = orange.min(axis=0) - 36, orange.max(axis=0) + 36  # a voxel has 8
        bright = np.argwhere(panel.min(axis=2) > 0.9)
        found.append((orange, bright[((bright > low) & (bright < high)).all(axis=1)]))
    return found


def middle(pixels: np.ndarray) -> np.ndarray:
    return (pixels.min(axis=0) + pixels.max(axis=0)) / 2


def test_the_outline_surrounds_the_density_in_every_slice(tmp_path: Path) -> None:
    path = tmp_path / "pair.png"
    plot_pair(*cubes(), title="x", path=path)
    for orange, bright in panels(path):
        assert len(orange) > 50
        np.testing.assert_allclose(
            middle(orange), middle(bright), atol=2.5
        )  # pixels; a voxel has 8


def test_a_moved_target_is_seen_to_be_moved(tmp_path: Path) -> None:
    """By 4 voxels of 16 along x: to the right in slices across z and y, not in that across x."""
    path = tmp_path / "pair.png"
    plot_pair(*cubes(shift=4), title="x", path=path)
    for (orange, bright), voxels in zip(panels(path), (4, 4, 0), strict=True):
        expected = [0, np.ptp(orange[:, 1]) / 16 * voxels]
        np.testing.assert_allclose(middle(orange) - middle(bright), expected, atol=2.5)


def test_pictures_are_small_and_the_same_each_time(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((90, 90, 90), dtype=np.float32)
    pair = [Volume(data, np.ones(3), np.zeros(3)) for data in (noise, noise.round())]
    files = [tmp_path / name for name in ("a.png", "b.png")]
    for path in files:
        plot_pair(*pair, title="EMD-1: " + "a long line, " * 20, path=path)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].stat().st_size < 150_000
    assert len(list(tmp_path.iterdir())) == 2


def test_a_target_on_another_grid_is_refused(tmp_path: Path) -> None:
    pair_map, _ = cubes()
    _, target = cubes(shape=(60, 64, 71))
    with pytest.raises(ValueError, match="voxels"):
        plot_pair(pair_map, target, title="x", path=tmp_path / "pair.png")
    assert not list(tmp_path.iterdir())


def test_why_there_is_no_pair_fits_into_the_picture(tmp_path: Path) -> None:
    """A long line is broken: no dark pixel at the right edge."""
    path = tmp_path / "none.png"
    plot_no_pair("EMD-1", "no voxel lies within 4 Å of the model, " * 8, path=path)
    picture = image.imread(path)[..., :3].min(axis=2)
    assert (picture < 0.5).any()
    assert (picture[:, -10:] == 1).all()
    assert (picture[[0, -1]] == 1).all()
