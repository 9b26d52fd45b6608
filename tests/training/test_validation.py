"""Validation by the maps that a network makes: a network that helps scores above one that harms."""

import numpy as np
import pytest
import torch
from scipy import fft
from torch import nn

from cryoready.core.fourier import frequency_radius
from cryoready.files.maps import read_map
from cryoready.files.models import read_model
from cryoready.metrics.score import Model, place, score
from cryoready.training.validation import HARM, Judged, Validator, gain

RESOLUTION = 3.8
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def entry():
    files = {role: f"resources/small/EMD-5830-A.{role}.gz" for role in ("map", "pdb")}
    files = {"map": files["map"], "model": files["pdb"]}
    return Judged.read("a", files, resolution=RESOLUTION)


class Filter(nn.Module):
    """Multiplies the spectrum of a box by exp(-B s²/4) with ``b`` = B in Å²."""

    def __init__(self, b):
        super().__init__()
        self.b = b

    def forward(self, x):
        radius = frequency_radius(tuple(x.shape[2:]), np.ones(3))
        filtered = fft.rfftn(x[:, 0].numpy(), axes=(1, 2, 3)) * np.exp(-self.b * radius**2 / 4)
        back = fft.irfftn(filtered, s=tuple(x.shape[2:]), axes=(1, 2, 3)).astype(np.float32)
        return torch.from_numpy(back)[:, None]


def test_the_deposited_map_has_the_scores_of_an_evaluation(entry):
    volume = read_map("resources/small/EMD-5830-A.map.gz")
    model = Model.of(read_model("resources/small/EMD-5830-A.pdb.gz"))
    placed = place(model, volume.grid, resolution=RESOLUTION, mask_radius=2 * RESOLUTION)
    row = score(volume, placed, sigma=0.6, local_radius=5.0).row
    (deposited,) = Validator([entry], device=CPU, precision="fp32").deposited()
    assert deposited == {"id": "a"} | {key: row[key] for key in deposited if key != "id"}


def test_blurring_harms_and_doing_nothing_hardly_matters(entry):
    judge = Validator([entry], device=CPU, precision="fp32")
    same, (row,) = judge(nn.Identity())
    blurred, _ = judge(Filter(200.0))
    assert abs(same) < 0.05  # resampling to 1 Å and back
    assert blurred < same - 0.05
    assert set(row) == set(judge.deposited()[0])


def test_the_voxel_size_of_the_sheet_replaces_that_of_the_header(entry):
    files = {role: f"resources/small/EMD-5830-A.{role}.gz" for role in ("map", "pdb")}
    files["model"] = files["pdb"]
    wrong = Judged.read("a", files, resolution=RESOLUTION, voxel_size=1.3)
    np.testing.assert_allclose(wrong.volume.grid.voxel_size, 1.3)
    assert wrong.deposited["cc_mask"] < entry.deposited["cc_mask"] - 0.2


def test_harm_counts_more_than_gain():
    before = {"fsc_inside_resolution": 0.6, "cc_mask": 0.7, "q_mean": 0.5}
    better = before | {"q_mean": 0.6}
    assert gain(before, better) == pytest.approx(0.1)
    assert gain(better, before) == pytest.approx(-0.1 * HARM)


def test_a_score_that_is_lost_has_become_0():
    before = {"fsc_inside_resolution": 0.6, "cc_mask": None, "q_mean": 0.5}
    assert gain(before, before | {"q_mean": None}) == pytest.approx(-0.5 * HARM)
    assert gain(before, before | {"cc_mask": 0.5}) == 0  # nothing to compare with
