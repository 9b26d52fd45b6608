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
    picture = image.imread(path)
    assert picture.std() > 0.1
    assert (picture[..., 0] - picture[..., 2] > 0.3).sum() > 100  # the orange contour


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
