"""Released weights are half as large and make the same map; what is not fit is refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_record import row, write_run

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.sheet import Entry
from cryoready.network.checkpoint import Card, load_network, save_weights
from cryoready.network.scunet import Architecture, SCUNet
from cryoready.report.model_card import write_model_card
from cryoready.training.memory import count_parameters
from cryoready.training.record import Record
from cryoready.training.release import check_sheet, release
from cryoready.training.samples import CROP_VOXELS, cut, sample_crops

SMALL = Architecture(width=4, blocks=1, head_dim=2, norm="voxel")
LIMITS = {"input_share": 0.0, "negatives": 0.0, "most_megabytes": 12.0, "tolerance": 1.0}
TRAINING = {
    "entries": {"EMD-1": "ab", "EMD-2": "cd"},
    "validation": ["EMD-2"],
    "structures": {"1abc": "ef"},
    "initial_weights": "0123",
    "train": {"loss": {"ssim": 1.0}},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network as a training leaves it."""
    torch.manual_seed(0)
    path = write_run(tmp_path_factory.mktemp("runs") / "mine") / "weights.safetensors"
    save_weights(path, SCUNet(SMALL), Card("mine", "0.1.0", SMALL, 1.0, training=TRAINING))
    return path


@pytest.fixture(scope="module")
def crops():
    return torch.rand((1, 1, 24, 24, 24), generator=torch.Generator().manual_seed(1))


def test_the_file_is_half_as_large_and_the_map_the_same(weights, crops, tmp_path):
    """float16 keeps 11 bits: each weight is off by at most 2⁻¹¹ of itself."""
    released = release(weights, tmp_path / "weights.safetensors", crops, **LIMITS)
    before, _ = load_network(weights)
    after, card = load_network(tmp_path / "weights.safetensors")
    with torch.inference_mode():
        difference = (before(100 * crops) - after(100 * crops)).abs().max()
    assert released.deviation == pytest.approx(float(difference), abs=1e-6)
    assert 0 < released.deviation < 0.5
    assert released.megabytes == pytest.approx(weights.stat().st_size / 2e6, rel=0.1)
    assert {v.dtype for v in load_file(tmp_path / "weights.safetensors").values()} == {
        torch.float16
    }
    assert released.parameters == count_parameters(before)
    untouched = {"input_share": 0.0, "negatives": 0.0}
    assert (card.name, card.training) == ("mine", {**TRAINING, "release": untouched})


def test_a_share_of_the_input_is_released_with_the_weights(weights, crops, tmp_path):
    to = tmp_path / "weights.safetensors"
    release(weights, to, crops, **LIMITS | {"input_share": 0.25, "negatives": 0.5})
    before, _ = load_network(weights)
    after, card = load_network(to)
    assert (card.negatives, card.architecture.skip) == (0.5, True)
    release(to, tmp_path / "again.safetensors", crops, **LIMITS | {"negatives": None})
    assert load_network(tmp_path / "again.safetensors")[1].negatives == 0.5
    with torch.inference_mode():
        expected = 25 * crops + 0.75 * before(100 * crops)
        assert (after(100 * crops) - expected).abs().max() < 0.5


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"most_megabytes": 0.01}, r"MB in half precision, above the limit of 0\.01 MB; train a"),
        ({"tolerance": 1e-9}, r"changes a crop by \S+ of 100, above the limit of 1e-09; raise"),
    ],
)
def test_what_is_not_fit_for_release_is_refused(weights, crops, tmp_path, limits, said):
    with pytest.raises(CryoreadyError, match=said) as caught:
        release(weights, tmp_path / "weights.safetensors", crops, **LIMITS | limits)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_sheet_must_hold_what_was_trained_on():
    card = Card("mine", "0.1.0", SMALL, 1.0, training=TRAINING)
    check_sheet(card, ["EMD-1", "EMD-2", "EMD-3", "1abc"], "x.tsv")
    for missing in ("EMD-2", "1abc"):
        sheet = {"EMD-1", "EMD-2", "1abc"} - {missing}
        lacks = rf"x\.tsv: lacks 1 of the entries .* {missing} for one"
        with pytest.raises(CryoreadyError, match=lacks):
            check_sheet(card, sheet, "x.tsv")


def test_the_readme_tells_people_what_they_need(weights, crops, tmp_path):
    released = release(weights, tmp_path / "weights.safetensors", crops, **LIMITS)
    sheet = {
        "EMD-1": Entry("EMD-1", split="train", resolution=3.25),
        "EMD-4": Entry("EMD-4", split="train", resolution=8.0),
        "1abc": Entry("1abc", split="train", map="simulated", resolution=6.0),
        "EMD-2": Entry("EMD-2", split="val", resolution=4.0),
    }
    run = Record.read(weights.parent)
    validated = [row(0, "EMD-2", 0.5), row(2, "EMD-2", 0.6, 3.5)]
    judged = write_run(tmp_path / "judged", scores=(0.0, 0.3, np.nan), validation=validated)
    readme = tmp_path / "README.md"
    for record, told in (
        (Record.read(judged), "| EMD-2 | 0.500 → 0.600 | 4.00 → 3.50 | 0.500 → 0.600 |"),
        (run, "The validation loss of EMD-2: 0.3000. No scores of whole maps were taken."),
    ):
        write_model_card(readme, released, record, sheet=sheet, crops=["EMD-2"])
        text = readme.read_text()
        assert told in text
        for part in (
            *("their models: 1; structures", "were simulated: 1.", "weights `0123`"),
            "resolutions 3.2 to 6.0 Å",  # not those of the sheet that the run did not use
            *(
                "not evidence",
                "Not for refinement",
                "additional map only",
                "MIT",
                "`loss.ssim` | 1",
            ),
            *(released.card.sha256, "weights of epoch 2", "300 crops in 3 epochs"),
        ):
            assert part in text
        assert "\n\n\n" not in text


def stack(folder, boxes):
    """A stack of boxes in the folder of an entry."""
    folder.mkdir()
    np.save(folder / "boxes.npy", np.asarray(boxes, dtype=np.float16))
    return folder / "boxes.npy"


def test_samples_are_the_fullest_crops_of_the_first_entries(tmp_path):
    """Of three boxes the second has most target; an entry without boxes is passed over."""
    edge = CROP_VOXELS + 2
    boxes = np.zeros((3, 2, edge, edge, edge))
    boxes[:, 0] = np.arange(3)[:, None, None, None] / 4
    boxes[:, 1] = np.array([0.1, 0.9, 0.3])[:, None, None, None]
    stacks = [stack(tmp_path / "none", boxes[:0]), stack(tmp_path / "a", boxes)]
    stacks += [stack(tmp_path / "b", boxes[:1]), stack(tmp_path / "c", boxes[:1])]
    ids, crops = sample_crops(stacks, most=2)
    assert ids == ["a", "b"]
    assert crops.shape == (2, 2, *[CROP_VOXELS] * 3)
    assert crops[:, 0].amax((1, 2, 3)).tolist() == [0.25, 0.0]


def test_slices_are_the_middle_of_input_prediction_and_target(tmp_path):
    """A network that doubles, on a ramp along z."""
    ramp = torch.arange(8.0)[:, None, None].expand(8, 8, 8) / 8
    crops = torch.stack([ramp, 1 - ramp])[None]
    slices = cut(torch.nn.Upsample(scale_factor=1), ["a"], crops)
    doubled = cut(_Doubling(), ["a"], crops)
    assert slices.planes[0, :, 0, 0].tolist() == [0.5, 0.5, 0.5]
    assert doubled.planes[0, :, 0, 0].tolist() == [0.5, 1.0, 0.5]
    doubled.write(tmp_path / "x.npz")
    again = type(doubled).read(tmp_path / "x.npz")
    assert again.ids == ["a"]
    np.testing.assert_array_equal(again.planes, doubled.planes)


class _Doubling(torch.nn.Module):
    def forward(self, x):
        return 2 * x
