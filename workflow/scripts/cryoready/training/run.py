"""One training run: what defines it, where its resumable state lives, what it leaves behind."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from tensorboardX import SummaryWriter

from cryoready import __version__
from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import file_sha256, written_whole
from cryoready.dataset.structures import Structures
from cryoready.density.normalise import CONVENTION, NETWORK_SCALE
from cryoready.enhance.devices import choose_device
from cryoready.network.checkpoint import Card, load_network, save_weights
from cryoready.network.scunet import Architecture, SCUNet, mixed_with_input
from cryoready.training.box_dataset import BoxDataset, BoxStack
from cryoready.training.loop import State, train
from cryoready.training.memory import count_parameters
from cryoready.training.mixed_dataset import MixedDataset
from cryoready.training.plan import Epoch, Plan, best_epoch
from cryoready.training.states import mark_ended, state_folder
from cryoready.training.stop import Stop, Stopped
from cryoready.training.synthetic_dataset import SyntheticBoxes
from cryoready.training.team import ALONE, Team
from cryoready.training.validation import Judged, Validator
from cryoready.training.variants import require_structures

Report = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """Everything a training needs; ``definition`` is what makes it this run and no other.

    ``wanted`` are the sizes of the network by the configuration: weights to start from have theirs,
    and the share ``negatives`` of the input's negative density that they keep.
    """

    network: SCUNet
    training: MixedDataset
    validation: BoxDataset
    judged: Sequence[Mapping[str, Any]]
    plan: Plan
    definition: Mapping[str, Any]
    name: str
    negatives: float
    wanted: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """One line on the size of the run."""
        parameters = count_parameters(self.network)
        real, synthetic = (0 if source is None else len(source) for source in self.training.sources)
        plan = self.plan
        limit = "" if plan.minutes is None else f", at most {plan.minutes:g} min"
        return (
            f"{real} boxes and {synthetic} structures to train, {len(self.validation)} boxes and "
            f"{len(self.judged)} maps to validate; network of {parameters / 1e6:.1f} million "
            f"parameters; up to {plan.epochs} epochs of {plan.steps} steps of "
            f"{plan.crops_per_step} crops, {plan.precision}{limit}"
            f"{self._overruled}"
        )

    @property
    def _overruled(self) -> str:
        """Which sizes of the configuration the weights to start from have otherwise."""
        found = vars(self.network.architecture)
        other = [
            f"{name} {found[name]} instead of {value}"
            for name, value in self.wanted.items()
            if found[name] != value
        ]
        return f"; the weights to start from have {', '.join(other)}" if other else ""

    def key(self, code: str) -> str:
        """Short hash of data, configuration, seed and ``code`` (the fingerprint of the science)."""
        text = json.dumps({**self.definition, "code": code}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def judge(self, device: torch.device) -> Validator | None:
        """Scores networks on the maps to validate on, if the plan asks for it."""
        if not self.plan.validate_every:
            return None
        maps = [
            Judged.read(
                entry["id"], entry, resolution=entry["resolution"], voxel_size=entry["voxel_size"]
            )
            for entry in self.judged
        ]
        return Validator(
            maps, device=device, precision=self.plan.precision, negatives=self.negatives
        )

    def card(self, epoch: Epoch) -> Card:
        """What the weights of ``epoch`` are, to be stored beside them."""
        return Card(
            name=self.name,
            version=__version__,
            architecture=self.network.architecture,
            intensity=CONVENTION,
            grid=1.0,
            negatives=self.negatives,
            training={**self.definition, "epoch": asdict(epoch)},
        )


def carry_out(
    *,
    outputs: Mapping[str, str],
    states: str,
    code: str,
    threads: int,
    report: Report,
    device: torch.device,
    stop: Stop,
    team: Team = ALONE,
    **data: Any,
) -> None:
    """Train a run, from where it stopped, and write what it leaves behind.

    Parameters
    ----------
    outputs
        paths of ``weights``, ``last``, ``history``, ``validation`` and the folder ``events``.
    states
        folder of the states of runs (`states.remove_ended`).
    code
        fingerprint of the science.
    threads
        of the CPU, for this process; results are bit-identical only for the same number.
    report
        takes one line for the user.
    device
        where this process computes.
    stop
        when to stop.
    team
        this process among others.
    data
        of `set_up`.

    Raises
    ------
    CryoreadyError
        on data that cannot be trained on, and for what `loop.train` raises it.
    Stopped
        if it was told to ``stop``.
    """
    torch.set_num_threads(threads)
    run = _together(lambda: set_up(**data), team, stop)
    with _led(team, Path(states), run.key(code), stop, report) as folder:
        _train(run, folder, stop, outputs, team=team, device=device, report=report)


def _train(
    run: Run,
    folder: Path,
    stop: Stop,
    outputs: Mapping[str, str],
    *,
    team: Team,
    device: torch.device,
    report: Report,
) -> None:
    """Train ``run``, whose state is in ``folder``."""
    state_file = folder / "state.pt"
    if team.leads:
        report(f"{run.summary}, on {team.size} × {device.type}")
        does = "goes on from" if state_file.exists() else "starts anew, saves in"
        report(f"{does} {state_file}")
    judge = _together(lambda: run.judge(device) if team.leads else None, team, stop)
    events = Events(folder / "events") if team.leads else None

    def on_epoch(state: State) -> None:
        report(describe_epoch(state.history, run.plan))
        write_table(folder / "history.tsv", [asdict(row) for row in state.history])
        if events:
            events.write(state.history)

    state = train(
        network=run.network,
        training=run.training,
        validation=run.validation,
        plan=run.plan,
        state_file=state_file,
        device=device,
        judge=judge,
        team=team,
        stop=stop,
        report=report,
        on_epoch=on_epoch,
    )
    if events:
        events.close(state.history)
        leave(run, state, folder / "events", outputs)
        mark_ended(folder, Path(outputs["weights"]))


def leave(run: Run, state: State, events: Path, outputs: Mapping[str, str]) -> None:
    """Write the weights of the best and of the last epoch, their cards, and how they came about."""
    history = state.history
    for name, weights, epoch in (
        ("weights", state.best, best_epoch(history)),
        ("last", state.weights, history[-1]),
    ):
        run.network.load_state_dict(weights)
        save_weights(Path(outputs[name]), run.network, run.card(epoch))
    write_table(Path(outputs["history"]), [asdict(row) for row in history])
    write_table(Path(outputs["validation"]), state.judged)
    shutil.rmtree(outputs["events"], ignore_errors=True)
    shutil.copytree(events, outputs["events"])


def set_up(
    *,
    training: Sequence[str],
    local_targets: Sequence[str],
    structures: Sequence[str],
    validation: Sequence[str],
    judged: Sequence[Mapping[str, Any]],
    pair_cards: Sequence[str],
    initial_weights: str | None,
    architecture: Mapping[str, Any],
    settings: Mapping[str, Any],
    definition: Mapping[str, Any],
) -> Run:
    """Data, network and plan of a run.

    Parameters
    ----------
    training, validation
        stacks of boxes (.npy).
    local_targets
        other targets of the boxes to train on (.npy), or none.
    structures
        packed atoms and their table (`dataset.structures`) to make synthetic pairs from, or none.
    judged
        maps to validate on: ``id``, ``map``, ``model``, ``resolution`` (Å) and ``voxel_size`` (Å;
        None: that of the header) of each.
    pair_cards
        JSON card of every prepared entry; their checksums define the data.
    initial_weights
        start from these, with their architecture (and a skip, if one is wanted); None: from
        scratch.
    architecture
        sizes of a network trained from scratch (configuration ``network``).
    settings
        configuration ``train``.
    definition
        the part of the configuration that makes this run another than others.

    Raises
    ------
    CryoreadyError
        if there is nothing to train or validate on, or the sizes of the network do not fit.
    """
    share = settings["real_share"]
    _refuse_nothing(settings, training, structures, validation, judged)
    torch.manual_seed(settings["seed"])
    network, negatives = _network(initial_weights, architecture)
    crop = settings["crop_voxels"]
    if crop % network.multiple:
        raise CryoreadyError(
            f"configuration: train.crop_voxels = {crop} must be a multiple of {network.multiple} "
            "(8 × network.window)"
        )
    targets: list[Path | None] = [Path(path) for path in local_targets]
    targets = targets or [None] * len(training)
    stacks = [
        BoxStack.open(Path(path), other) for path, other in zip(training, targets, strict=True)
    ]
    real = BoxDataset(stacks, crop) if share > 0 else None
    synthetic, named = None, {}
    if share < 1:
        packed, local = Structures.open(*map(Path, structures)), settings["target"] == "local"
        where = choose_device("cuda") if settings["synthesis"] == "gpu" else None
        synthetic = SyntheticBoxes(packed, crop, local_target=local, device=where)
        named = dict(packed.table[["id", "sha256"]].astype(str).to_numpy())
    plan = {field.name: settings[field.name] for field in fields(Plan)}
    plan["boxes_per_epoch"] = settings["boxes_per_epoch"] or len(real or ())
    cards = [_card(Path(path)) for path in pair_cards]
    return Run(
        network=network,
        training=MixedDataset(real, synthetic, real_share=share, seed=settings["seed"]),
        validation=BoxDataset(_open(validation), crop),
        judged=judged,
        plan=Plan(**plan),
        definition={
            **definition,
            "initial_weights": initial_weights and file_sha256(initial_weights),
            "entries": {card["id"]: card["boxes_sha256"] for card in cards},
            "local_targets": {Path(path).parent.name: file_sha256(path) for path in local_targets},
            "structures": named,
            "packed": [file_sha256(path) for path in structures],
            "validation": sorted(Path(path).parent.name for path in validation),
            "judged": [
                {**entry, "map": file_sha256(entry["map"]), "model": file_sha256(entry["model"])}
                for entry in judged
            ],
        },
        name=settings["run"],
        negatives=negatives,
        wanted=architecture,
    )


def _refuse_nothing(
    settings: Mapping[str, Any],
    training: Sequence[str],
    structures: Sequence[str],
    validation: Sequence[str],
    judged: Sequence[Mapping[str, Any]],
) -> None:
    """Stop if the settings ask for data that the sheet does not have."""
    share, every = settings["real_share"], settings["validate_every"]
    require_structures(structures, share)
    for missing, message in (
        (
            share > 0 and not training,
            "the sheet has no entry with split 'train' and a map: give at least one",
        ),
        (
            share < 1 and settings["boxes_per_epoch"] is None,
            f"train.boxes_per_epoch must be given when train.real_share is {share:g}, below 1: "
            "synthetic crops have no end",
        ),
        (
            share < 1 and settings["synthesis"] == "gpu" and settings["workers"] > 0,
            f"train.synthesis gpu and train.workers {settings['workers']} exclude each other: "
            "a GPU simulates in the training process; set one of them to cpu or 0",
        ),
        (not validation, "the sheet has no entry with split 'val': give at least one"),
        (
            every and not judged,
            f"train.validate_every is {every}, but no entry with split 'val' has a map and a "
            "model: give at least one, or set train.validate_every to 0",
        ),
    ):
        if missing:
            raise CryoreadyError(message)


def _network(initial_weights: str | None, architecture: Mapping[str, Any]) -> tuple[SCUNet, float]:
    """The network to begin with, and the share of negative density that it keeps."""
    if initial_weights is not None:
        network, card = load_network(Path(initial_weights), grid=1.0)
        if architecture["skip"] and not network.architecture.skip:
            network = mixed_with_input(network, share=0.5)
        return network, card.negatives
    try:
        return SCUNet(Architecture(**architecture, scale=NETWORK_SCALE)), 0.0
    except ValueError as error:
        raise CryoreadyError(f"configuration: network: {error}") from error


def _card(path: Path) -> dict[str, Any]:
    """The card of a pair that can be trained on."""
    card: dict[str, Any] = json.loads(path.read_text())
    if why := card.get("failed"):
        raise CryoreadyError(
            f"{card['id']} could not be prepared: {why}; take it out of the sheet, or delete "
            f"{path} to try again"
        )
    return card


def _open(paths: Sequence[str]) -> list[BoxStack]:
    return [BoxStack.open(Path(path)) for path in paths]


@contextmanager
def _led(team: Team, root: Path, key: str, stop: Stop, report: Report) -> Iterator[Path]:
    """`state_folder`, held by the process that leads; the others follow once it has it."""
    with ExitStack() as held:

        def enter() -> Path:
            if not team.leads:
                return root / key
            return held.enter_context(state_folder(root, key, report))

        yield _together(enter, team, stop)


def _together(prepare: Callable[[], T], team: Team, stop: Stop) -> T:
    """What ``prepare`` returns; if it is cut short in one process, all of the team stop."""
    prepared: list[T] = []
    with suppress(Stopped), stop.cut_short():
        prepared.append(prepare())
    (missing,) = team.mean(not prepared)
    if missing:
        raise Stopped
    return prepared[0]


class Events:
    """TensorBoard's form of the history; rows it missed when a run was killed are made up for."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.writer = SummaryWriter(str(folder))
        self.written = 0

    def write(self, history: Sequence[Epoch]) -> None:
        """Add the rows that are new."""
        for row in history[self.written :]:
            for name, value in asdict(row).items():
                if name != "epoch" and value is not None:
                    self.writer.add_scalar(name, value, row.epoch)
        self.written = len(history)
        self.writer.flush()

    def close(self, history: Sequence[Epoch]) -> None:
        """Add the last rows; if the run was killed after its last epoch, these are all."""
        self.write(history)
        self.writer.close()


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line a row, tab-separated; of no rows, the names of the first columns."""
    columns = None if rows else ["epoch", "id"]
    with written_whole(path) as part:
        pd.DataFrame(rows, columns=columns).to_csv(part, sep="\t", index=False)


def describe_epoch(history: Sequence[Epoch], plan: Plan) -> str:
    """The last epoch in one line, with the time that is left."""
    row = history[-1]
    left = plan.minutes_left(history, row.seconds / 60)
    score = "" if row.score is None else f", score {row.score:.4f}"
    return (
        f"epoch {row.epoch}/{plan.epochs}: training loss {row.train_loss:.4f}, validation loss "
        f"{row.validation_loss:.4f}{score}, {row.samples_per_second:.2f} crops/s, "
        f"at most {left:.0f} min left"
    )
