"""One training run: what defines it, where its resumable state lives, what it leaves behind."""

import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cryoready import __version__
from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import file_sha256, written_whole
from cryoready.density.normalise import CONVENTION, NETWORK_SCALE
from cryoready.enhance.inference import choose_device
from cryoready.network.checkpoint import Card, load_network
from cryoready.network.scunet import Architecture, SCUNet
from cryoready.training.box_dataset import BoxDataset, BoxStack
from cryoready.training.loop import Epoch, Plan


@dataclass(frozen=True)
class Run:
    """Everything a training needs; ``definition`` is what makes it this run and no other."""

    network: SCUNet
    training: BoxDataset
    validation: BoxDataset
    plan: Plan
    device: torch.device
    definition: Mapping[str, Any]
    name: str

    @property
    def summary(self) -> str:
        """One line on the size of the run."""
        parameters = sum(values.numel() for values in self.network.parameters())
        crops = self.plan.boxes_per_epoch or len(self.training)
        return (
            f"{len(self.training)} boxes to train, {len(self.validation)} to validate; network of "
            f"{parameters / 1e6:.1f} million parameters on {self.device}; up to {self.plan.epochs} "
            f"epochs of {min(crops, len(self.training))} crops, {self.plan.precision}"
        )

    def key(self, code: str) -> str:
        """Short hash of data, configuration, seed and ``code`` (the fingerprint of the science)."""
        text = json.dumps({**self.definition, "code": code}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def card(self, history: list[Epoch]) -> Card:
        """What the weights of the best epoch of ``history`` are, to be stored beside them."""
        best = min(history, key=lambda row: row.validation_loss)
        return Card(
            name=self.name,
            version=__version__,
            architecture=self.network.architecture,
            intensity=CONVENTION,
            grid=1.0,
            training={**self.definition, "epoch": asdict(best)},
        )


def set_up(
    *,
    training: Sequence[str],
    validation: Sequence[str],
    pair_cards: Sequence[str],
    initial_weights: str | None,
    architecture: Mapping[str, Any],
    settings: Mapping[str, Any],
    definition: Mapping[str, Any],
    threads: int,
) -> Run:
    """Data, network and plan of a run.

    Parameters
    ----------
    training, validation
        stacks of boxes (.npy).
    pair_cards
        JSON card of every prepared entry; their checksums define the data.
    initial_weights
        start from these, with their architecture; None: from scratch.
    architecture
        sizes of a network trained from scratch (configuration ``network``).
    settings
        configuration ``train``.
    definition
        the part of the configuration that makes this run another than others.
    threads
        of the CPU; results are bit-identical only for the same number.

    Raises
    ------
    CryoreadyError
        if there is nothing to train or validate on, or the sizes of the network do not fit.
    """
    for split, stacks in (("train", training), ("val", validation)):
        if not stacks:
            raise CryoreadyError(f"the sheet has no entry with split {split!r}: give at least one")
    torch.set_num_threads(threads)
    torch.manual_seed(settings["seed"])
    if initial_weights is None:
        try:
            network = SCUNet(Architecture(**architecture, scale=NETWORK_SCALE))
        except ValueError as error:
            raise CryoreadyError(f"configuration: network: {error}") from error
    else:
        network, _ = load_network(Path(initial_weights), grid=1.0)
    crop = settings["crop_voxels"]
    if crop % network.multiple:
        raise CryoreadyError(
            f"configuration: train.crop_voxels = {crop} must be a multiple of {network.multiple} "
            "(8 × network.window)"
        )
    plan = Plan(**{field.name: settings[field.name] for field in fields(Plan)})
    cards = [json.loads(Path(path).read_text()) for path in pair_cards]
    return Run(
        network=network,
        training=BoxDataset(_open(training), crop, settings["seed"]),
        validation=BoxDataset(_open(validation), crop, None),
        plan=plan,
        device=choose_device("auto"),
        definition={
            **definition,
            "initial_weights": initial_weights and file_sha256(initial_weights),
            "entries": {card["id"]: card["boxes_sha256"] for card in cards},
            "validation": sorted(Path(path).parent.name for path in validation),
        },
        name=settings["run"],
    )


def _open(paths: Sequence[str]) -> list[BoxStack]:
    return [BoxStack.open(Path(path)) for path in paths]


@contextmanager
def state_folder(root: Path, key: str) -> Iterator[Path]:
    """The folder of the resumable state of run ``key``, held by one process at a time.

    Snakemake deletes the declared outputs of a failed job, so the state lives outside of them. It
    is removed when the body ends well: a forced run then starts anew. The lock belongs to the
    process, so a killed run leaves none behind.

    Raises
    ------
    CryoreadyError
        if another process trains the same run.
    """
    folder = root / key
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise CryoreadyError(
                f"{folder} is in use by {lock.read().strip() or 'another process'}: "
                "this very run is being trained there; wait for it or stop it"
            ) from error
        lock.truncate(0)
        lock.write(f"{socket.gethostname()}, process {os.getpid()}")
        lock.flush()
        yield folder
    shutil.rmtree(folder)


def write_history(path: Path, history: list[Epoch]) -> None:
    """One row an epoch, tab-separated."""
    with written_whole(path) as part:
        pd.DataFrame([asdict(row) for row in history]).to_csv(part, sep="\t", index=False)


def describe_epoch(history: list[Epoch], plan: Plan) -> str:
    """The last epoch in one line, with the time that is left."""
    row = history[-1]
    left = (plan.epochs - row.epoch) * row.seconds / 60
    return (
        f"epoch {row.epoch}/{plan.epochs}: training loss {row.train_loss:.4f}, validation loss "
        f"{row.validation_loss:.4f}, {row.samples / row.seconds:.2f} crops/s, "
        f"at most {left:.0f} min left"
    )
