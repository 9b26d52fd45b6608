"""What a run left is read as what it means."""

import json

import numpy as np
import pandas as pd
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.training.record import SCORES, Record, gains


def write_run(folder, *, losses=(0.5, 0.3, 0.4), scores=None, validation=()):
    """The tables and the card of a run, as a training writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    epochs = np.arange(len(losses)) + 1
    history = pd.DataFrame({"epoch": epochs, "train_loss": losses, "validation_loss": losses})
    history = history.assign(learning_rate=1e-3, samples=100, seconds=50.0)
    if scores is not None:
        history["score"] = scores
    history.to_csv(folder / "history.tsv", sep="\t", index=False)
    pd.DataFrame(validation).to_csv(folder / "validation.tsv", sep="\t", index=False)
    (folder / "card.json").write_text(json.dumps({"name": folder.name}))
    return folder


def row(epoch, entry, value, resolution=4.0):
    """All scores of a map are ``value``, its resolution at FSC 0.5 is ``resolution``."""
    values = dict.fromkeys(SCORES, value) | {"d_fsc_model_05_masked": resolution}
    return {"epoch": epoch, "id": entry, **values}


def test_the_score_chooses_the_epoch_before_the_loss_does(tmp_path):
    assert Record.read(write_run(tmp_path / "loss")).best == 2
    assert Record.read(write_run(tmp_path / "score", scores=(0.1, np.nan, 0.2))).best == 3


def test_gains_are_of_the_best_epoch_against_the_deposited_maps(tmp_path):
    """By hand: (0.6 - 0.5 + 0.9 - 0.6) / 2 = 0.2, and (3 + 3) / (4 + 8) = 0.5."""
    validation = [
        *(row(0, "a", 0.5, 4.0), row(0, "b", 0.6, 8.0)),
        *(row(1, "a", 0.1, 9.0), row(1, "b", 0.1, 9.0)),
        *(row(3, "a", 0.6, 3.0), row(3, "b", 0.9, 3.0)),
    ]
    run = Record.read(write_run(tmp_path / "x", scores=(0.1, np.nan, 0.2), validation=validation))
    assert list(run.comparison["id"]) == ["a", "b"]
    assert run.summary["q_mean_gain"] == pytest.approx(0.2)
    assert run.summary["d_fsc_model_05_masked_ratio"] == pytest.approx(0.5)
    assert run.summary["crops"] == 300
    assert run.summary["minutes"] == pytest.approx(2.5)
    assert run.summary["crops_per_second"] == pytest.approx(2.0)


def test_a_value_that_one_map_lacks_counts_in_neither_mean(tmp_path):
    """Map b is never below 0.5 after: only a counts, 3 / 4."""
    validation = [row(0, "a", 0.5), row(0, "b", 0.5, 8.0), row(1, "a", 0.5, 3.0)]
    validation += [row(1, "b", 0.5, np.nan)]
    run = Record.read(write_run(tmp_path / "x", losses=(0.5,), validation=validation))
    assert gains(run.comparison)["d_fsc_model_05_masked_ratio"] == pytest.approx(0.75)


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_without_validated_maps_has_no_gains(tmp_path, kept):
    """Of an earlier version, or with train.validate_every 0."""
    folder = write_run(tmp_path / "x")
    if not kept:
        (folder / "validation.tsv").unlink()
    run = Record.read(folder)
    assert run.comparison.empty
    assert np.isnan(run.summary["cc_mask_gain"])
    assert run.summary["validation_loss"] == 0.3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("history.tsv", ""),
        ("history.tsv", "epoch\tloss\n1\t0.5\n"),
        ("validation.tsv", "epoch\tq_mean\n0\t0.5\n"),
        ("card.json", "{"),
    ],
)
def test_a_damaged_folder_is_named_in_one_line(tmp_path, name, content):
    folder = write_run(tmp_path / "mine")
    (folder / name).write_text(content)
    with pytest.raises(CryoreadyError, match="mine: not what a training leaves") as caught:
        Record.read(folder)
    assert "\n" not in str(caught.value)
