"""Figures show what they are given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import image

from cryoready.core.volume import Volume
from cryoready.report.plots import plot_before_after, plot_history


@pytest.fixture
def volumes():
    before = np.random.default_rng(0).normal(0, 0.1, (40, 44, 48)).astype(np.float32)
    before[15:25, 15:25, 20:30] += 1
    return [Volume(data, np.full(3, 1.3), np.zeros(3)) for data in (before, before * 50)]


def test_the_same_map_gives_the_same_two_rows(volumes, tmp_path):
    before, _ = volumes
    path = tmp_path / "picture.png"
    plot_before_after(before, before, contours=(0.5, 0.5), title="x", path=path)
    picture = image.imread(path)[..., :3]
    orange = np.argwhere(picture[..., 0] - picture[..., 2] > 0.3)  # pixels of the contours
    lower = orange[:, 0] > picture.shape[0] / 2
    assert (
        100 < lower.sum() == pytest.approx((~lower).sum(), rel=0.05)
    )  # rows may lie off by 1/2 px
    sizes = [np.ptp(orange[rows], axis=0) for rows in (lower, ~lower)]
    assert np.abs(sizes[0] - sizes[1]).max() <= 1


def test_the_contour_surrounds_the_voxels_that_it_encloses(tmp_path):
    """A cube of 10 voxels in 40: its outline is 11 pixels of the image wide, centred on it."""
    data = np.zeros((40, 40, 40), dtype=np.float32)
    data[15:25, 15:25, 15:25] = 1
    volume = Volume(data, np.ones(3), np.zeros(3))
    path = tmp_path / "picture.png"
    plot_before_after(volume, volume, contours=(0.5, 0.5), title="x", path=path)
    picture = image.imread(path)[..., :3]
    half = picture[: picture.shape[0] // 2, : picture.shape[1] // 3]
    orange = np.argwhere(half[..., 0] - half[..., 2] > 0.3)
    bright = np.argwhere((half.min(axis=2) > 0.9) & (half.max(axis=2) - half.min(axis=2) < 0.05))
    inside = bright[((bright > orange.min(axis=0)) & (bright < orange.max(axis=0))).all(axis=1)]
    margins = [inside.min(axis=0) - orange.min(axis=0), orange.max(axis=0) - inside.max(axis=0)]
    assert np.abs(margins[0] - margins[1]).max() <= 2


def test_maps_on_different_grids_are_refused(volumes, tmp_path):
    before, after = volumes
    other = Volume(after.data[:-1], after.voxel_size, after.origin)
    with pytest.raises(ValueError, match="voxels"):
        plot_before_after(before, other, contours=(1, 1), title="x", path=tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("contour", [0.5, 1e6, -1e6])
def test_any_contour_can_be_drawn(volumes, tmp_path, contour):
    before, after = volumes
    path = tmp_path / "picture.png"
    plot_before_after(before, after, contours=(contour, contour), title="x", path=path)
    assert path.stat().st_size > 1000


def test_the_loss_figure_is_reproducible(tmp_path):
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "train_loss": [3.0, 2.0, 1.0],
            "validation_loss": [3.1, 2.5, 2.2],
            "learning_rate": [1e-3, 1e-3, 5e-4],
        }
    )
    files = [tmp_path / name for name in ("a.svg", "b.svg")]
    for path in files:
        plot_history(history, path)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert b"validation" in files[0].read_bytes()
