"""A training from files to weights: kills, reruns, and what its weights are good for.

The tests share one small training (config/small.yaml) and build on each other, in this order.
"""

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from checkout import Checkout, kill
from cryoready.network.checkpoint import load_training_state
from map_files import read_map

pytestmark = pytest.mark.workflow

SMALL = ("--configfile", "config/small.yaml")
SCRIPTS = "workflow/scripts"
EPOCHS = 8
PATIENCE = 120.0  # s until a training must have got going


@dataclass(frozen=True)
class Trained:
    """What a run left."""

    weights: dict[str, torch.Tensor]
    card: dict[str, object]
    history: pd.DataFrame

    @classmethod
    def read(cls, checkout: Checkout) -> "Trained":
        folder = checkout / "results/training/small"
        return cls(
            load_file(folder / "weights.safetensors"),
            json.loads((folder / "card.json").read_text()),
            pd.read_csv(folder / "history.tsv", sep="\t"),
        )


@pytest.fixture(scope="module")
def trained(checkout: Checkout) -> Trained:
    """The uninterrupted run."""
    checkout.made("train", *SMALL)
    return Trained.read(checkout)


def states(checkout: Checkout) -> list[Path]:
    """Resumable states of runs that have not ended."""
    return sorted((checkout / "results/training/state").glob("*/state.pt"))


def test_a_training_leaves_weights_card_history_and_figure(
    checkout: Checkout, trained: Trained
) -> None:
    names = {"weights.safetensors", "card.json", "last.safetensors", "last.json"}
    names |= {"history.tsv", "validation.tsv", "loss.svg"}
    found = checkout.files("results/training/small")
    assert {name for name in found if not name.startswith("events")} == names
    scores = pd.read_csv(checkout / "results/training/small/validation.tsv", sep="\t")
    assert list(scores["epoch"]) == [0, 4, 8]  # 0: as deposited
    assert set(scores["id"]) == {"EMD-5830-A"}
    chosen = trained.history.set_index("epoch")["score"].idxmax()
    assert trained.card["training"]["epoch"]["epoch"] == chosen
    assert (checkout / "results/training/small/loss.svg").read_text().count("<svg") == 1
    assert list(trained.history["epoch"]) == list(range(1, EPOCHS + 1))
    assert set(trained.card["training"]["entries"]) == {"EMD-2566-9", "EMD-6272-box", "EMD-5830-A"}
    assert trained.card["training"]["validation"] == ["EMD-5830-A"]
    assert not any((checkout / "results/training/state").iterdir())


def test_it_learns(trained: Trained) -> None:
    """EMD-5830-A is not trained on; a network that returns nothing has a loss of about 1."""
    losses = trained.history["validation_loss"]
    assert losses.iloc[-1] < 0.5 * losses.iloc[0]
    assert losses.min() < 0.4


def test_what_changes_no_result_reruns_nothing(checkout: Checkout, trained: Trained) -> None:
    """Comments, what jobs ask for, signals, a checkout's new file times, another environment."""
    package = f"{SCRIPTS}/cryoready"
    with (
        checkout.edited(f"{package}/core/cost.py", "SNAKEMAKES_MB = 350", "SNAKEMAKES_MB = 400"),
        checkout.edited(f"{package}/training/stop.py", "IMPATIENCE = 5.0", "IMPATIENCE = 9.0"),
        checkout.edited(f"{SCRIPTS}/train.py", '"""Boxes', '# why\n"""All boxes'),
        checkout.edited(f"{package}/training/loop.py", "class State:", "class State:  # how"),
        checkout.edited(f"{package}/density/simulate.py", "# exp(-8)", "# exp(-4²/2)"),
        checkout.edited("envs/cryoready.yaml", "torch==", "torch==9.9.9 #"),
    ):
        for path in checkout.folder.rglob("*"):
            inside = path.relative_to(checkout.folder).parts[0]
            if path.is_file() and inside not in ("results", ".snakemake"):
                os.utime(path)
        assert checkout.planned("train", *SMALL) == {}


def test_another_loss_retrains_but_does_not_prepare(checkout: Checkout, trained: Trained) -> None:
    with checkout.edited(f"{SCRIPTS}/cryoready/training/losses.py", "1e-6", "1e-5"):
        planned = checkout.planned("train", *SMALL)
        assert planned == {"train_network": 1, "loss_figure": 1, "train": 1}
        map_only = checkout.planned(
            "results/EMD-3488_emready.mrc", *SMALL, "--config", "weights=trained"
        )
        assert map_only == {"enhance": 1}  # a map asked for never starts a training


def test_another_simulation_prepares_and_retrains(checkout: Checkout, trained: Trained) -> None:
    with checkout.edited(
        f"{SCRIPTS}/cryoready/density/simulate.py", "SIGMAS = 4.0", "SIGMAS = 5.0"
    ):
        planned = checkout.planned("train", *SMALL)
    assert planned == {"prepare": 3, "train_network": 1, "loss_figure": 1, "train": 1}


def test_the_trained_weights_enhance(checkout: Checkout, trained: Trained) -> None:
    target = "results/EMD-5830-A_emready.mrc"
    checkout.made(target, *SMALL, "--config", "weights=trained")
    before = read_map(checkout / "resources/small/EMD-5830-A.map.gz")
    after = read_map(checkout / target)
    assert after.place == before.place
    assert "weights small" in after.labels[-1]
    card = json.loads((checkout / "results/EMD-5830-A_emready.json").read_text())
    assert card["weights"] == {"name": "small", "sha256": trained.card["sha256"]}


def progress(checkout: Checkout) -> tuple[int, int]:
    """Epochs and batches done by the run that is under way."""
    for path in states(checkout):
        saved = load_training_state(path)["progress"]
        return saved["epoch"], saved["batch"]
    return 0, 0


def wait_until_free(lock: Path) -> None:
    """Until the process that held it is gone, memory and all."""
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def test_a_forced_run_that_was_killed_ends_as_if_it_had_not_been(
    checkout: Checkout, trained: Trained
) -> None:
    """Forced, it starts anew; killed amid an epoch, it goes on; the weights are the same bits."""
    often = checkout.settings("often", train={"checkpoint_minutes": 0})
    settings = (*SMALL, often)
    process = checkout.start("--cores=1", "train", "--forcerun", "train_network", *SMALL, often)
    deadline = time.monotonic() + PATIENCE
    seen = set()
    while not ((done := progress(checkout)) >= (1, 1) and done[1] > 0):
        seen.add(done)
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"epoch and batch {done} after {PATIENCE:g} s"
        time.sleep(0.02)
    kill(process)
    wait_until_free(states(checkout)[0].parent.with_suffix(".lock"))
    assert min(seen - {(0, 0)}) < (1, 0)  # it had started from the beginning
    killed_in = progress(checkout)[0] + 1
    assert not checkout.files("results/training/small") & {"weights.safetensors", "card.json"}

    checkout.made("--unlock", *settings)
    run = checkout.made("train", *settings)
    resumed = Trained.read(checkout)
    assert "epoch 1/" not in run.err
    assert f"epoch {killed_in}/" in run.err
    assert resumed.weights.keys() == trained.weights.keys()
    assert all(
        torch.equal(resumed.weights[name], trained.weights[name]) for name in trained.weights
    )
    measured = ["seconds", "samples_per_second", "memory_gb"]
    pd.testing.assert_frame_equal(
        resumed.history.drop(columns=measured), trained.history.drop(columns=measured)
    )
    assert resumed.card["sha256"] == trained.card["sha256"]
    assert not states(checkout)


def test_a_training_that_diverges_is_one_line(checkout: Checkout, trained: Trained) -> None:
    wild = checkout.settings("wild", train={"run": "wild", "learning_rate": 1e30, "clip": 0})
    error = checkout.snakemake("train", *SMALL, wild).error
    assert "the training loss is nan in epoch 1, batch 1: lower train.learning_rate" in error
    assert not checkout.files("results/training/wild")
    assert np.isfinite(trained.history.drop(columns="score").to_numpy()).all()
