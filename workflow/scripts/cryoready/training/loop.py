"""The training loop: one loop, resumable at any moment."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import written_whole
from cryoready.density.normalise import NETWORK_SCALE
from cryoready.enhance.devices import forget_peak
from cryoready.network.checkpoint import load_training_state, save_training_state
from cryoready.training.box_dataset import BoxDataset
from cryoready.training.losses import total_loss
from cryoready.training.memory import enough_memory, peak_gb
from cryoready.training.mixed_dataset import MixedDataset
from cryoready.training.plan import Epoch, Plan, best_epoch
from cryoready.training.stop import (
    TELLS_SENDER,
    Stop,
    Stopped,
    heed_the_training_alone,
    starting_helpers,
)
from cryoready.training.team import ALONE, Team, alone

Weights = dict[str, Tensor]
Batch = list[Tensor]  # maps and targets, each (n, 1, z, y, x), 0-1
PACE_STEPS = 5  # after so many steps it is told how long the run will take


class Judge(Protocol):
    """Says how good a network is by the maps it makes (`validation.Validator`)."""

    def deposited(self) -> list[dict[str, Any]]:
        """A row for each map before any network."""

    def __call__(self, network: nn.Module) -> tuple[float, list[dict[str, Any]]]:
        """A score, the higher the better, and a row for each map."""


@dataclass
class Progress:
    """How far the epoch under way has come: steps, the sum of their losses, seconds."""

    batch: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0


@dataclass(eq=False)
class State:
    """All that changes during a training: saved and restored as a whole.

    ``averaged`` holds the moving average of the weights: what is judged and kept. ``judged`` are
    the rows of validation.tsv, ``best`` the averaged weights of the best epoch so far.
    """

    network: nn.Module
    averaged: AveragedModel
    optimizer: Adam
    progress: Progress
    history: list[Epoch]
    judged: list[dict[str, Any]]
    best: Weights

    @classmethod
    def new(cls, network: nn.Module, plan: Plan) -> "State":
        """Before the first step."""
        averaged = AveragedModel(network, multi_avg_fn=_moving_average(plan.ema))
        optimizer = Adam(network.parameters(), lr=plan.learning_rate)
        return cls(network, averaged, optimizer, Progress(), [], [], {})

    @property
    def weights(self) -> Weights:
        """A copy of the averaged weights, on the CPU."""
        state = self.averaged.module.state_dict()
        return {name: value.cpu().clone() for name, value in state.items()}

    def save(self, path: Path) -> None:
        """Write everything to ``path``, whole or not at all."""
        content = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": {"epoch": len(self.history), **asdict(self.progress)},
            "history": [asdict(row) for row in self.history],
            "judged": self.judged,
            "best": self.best,
        }
        save_training_state(path, content)

    def load(self, path: Path) -> None:
        """Go back to what `save` wrote."""
        content = load_training_state(path)
        self.network.load_state_dict(content["network"])
        self.averaged.load_state_dict(content["averaged"])
        self.optimizer.load_state_dict(content["optimizer"])
        progress = content["progress"]
        self.progress = Progress(progress["batch"], progress["loss_sum"], progress["seconds"])
        self.history = [Epoch(**row) for row in content["history"]]
        self.judged, self.best = content["judged"], content["best"]


def train(
    network: nn.Module,
    training: MixedDataset,
    validation: BoxDataset,
    plan: Plan,
    *,
    state_file: Path,
    device: torch.device,
    judge: Judge | None = None,
    team: Team = ALONE,
    stop: Stop | None = None,
    report: Callable[[str], None] = lambda line: None,
    on_epoch: Callable[[State], None] = lambda state: None,
) -> State:
    """Train ``network`` in place; what it has learnt is in the state returned.

    A run that was killed goes on from ``state_file`` with the same samples in the same order: on
    one CPU with the same number of threads the result is bit-identical to an uninterrupted run
    (unless ``plan.minutes`` ends it or stretches its cosine: seconds do not repeat).

    Parameters
    ----------
    network
        takes and returns (n, 1, z, y, x), 0-100.
    training
        endless samples by epoch and number.
    validation
        central crops for the validation loss.
    plan
        hyperparameters.
    state_file
        everything needed to go on; written every few minutes and after every epoch.
    device
        where to compute.
    judge
        asked every ``plan.validate_every`` epochs and after the last one.
    team
        the processes that train this network together.
    stop
        asked after every step.
    report
        told the pace after the first steps.
    on_epoch
        called after every epoch, in the process that leads.

    Returns
    -------
    The state after the last epoch: `State.best` and `State.weights`, `State.history`,
    `State.judged`.

    Raises
    ------
    CryoreadyError
        if the loss is not finite, memory runs out, a box cannot be read, or the saved state is
        damaged or of another run.
    Stopped
        if any process of the team was told to stop; the state is saved.
    """
    state, stop = State.new(network.to(device), plan), stop or Stop()
    if state_file.exists():
        state.load(state_file)
    elif judge and team.leads:
        state.judged = [{"epoch": 0, **row} for row in judge.deposited()]
    shared, begun = team.shared(network, device), len(state.history)

    while not plan.ended(state.history):
        (due,) = team.mean(stop.due)
        if due:
            raise Stopped
        progress = state.progress
        opened = saved = time.monotonic()
        first, started = progress.batch, opened - progress.seconds
        forget_peak([device])
        shared.train()
        with stop.finishing_steps():
            for batches in _batches(training, plan, team, state):
                if plan.out_of_time(state.history, progress.seconds):
                    break
                for group in state.optimizer.param_groups:
                    group["lr"] = _rate(plan, state)
                with enough_memory(plan, team.size, device):
                    loss = _backward(shared, batches, plan, state, device, state_file)
                state.optimizer.step()
                state.averaged.update_parameters(network)
                seconds = time.monotonic() - started
                loss, progress.seconds, told = team.mean(loss, seconds, stop.after_step())
                progress.loss_sum += loss
                progress.batch += 1
                if (len(state.history), progress.batch) == (begun, first + PACE_STEPS):
                    report(_pace(plan, state, time.monotonic() - opened, device))
                late = time.monotonic() - saved > 60 * plan.checkpoint_minutes
                if team.leads and (told or late):
                    saved = time.monotonic()
                    state.save(state_file)
                if told:
                    team.agree(None)  # the first process to end takes the others with it
                    raise Stopped
        try:
            if team.leads:
                state.save(state_file)
                with stop.cut_short():
                    _close_epoch(state, plan, validation, judge, device)
        except Stopped:
            team.agree(None)  # who wait for the history are not to wait for ever
            raise
        history, state.progress = team.agree(state.history), Progress()
        if history is None:
            raise Stopped
        state.history = history
        if team.leads:
            state.save(state_file)
            on_epoch(state)
    return state


def loss_of(network: nn.Module, batch: Batch, plan: Plan, device: torch.device) -> Tensor:
    """The loss of one batch."""
    density, target = (values.to(device, non_blocking=True) for values in batch)
    with plan.autocast(device):
        prediction = network(density * NETWORK_SCALE) / NETWORK_SCALE
    return total_loss(prediction, target, plan.loss, beta=plan.beta)


def validation_loss(
    network: nn.Module, dataset: BoxDataset, plan: Plan, device: torch.device
) -> float:
    """Mean loss over the central crops of ``dataset``."""
    network.eval()
    total = 0.0
    with torch.inference_mode():
        for batch in DataLoader(dataset, plan.batch_size):
            total += float(loss_of(network, batch, plan, device)) * len(batch[0])
    return total / len(dataset)


def _batches(
    training: MixedDataset, plan: Plan, team: Team, state: State
) -> Iterator[Sequence[Batch]]:
    """What this process sees in the steps of the epoch that are still to come."""
    epoch, done, crops = len(state.history), state.progress.batch, plan.crops_per_step
    keys = [
        team.part([(epoch, k) for k in range(start, start + plan.batch_size)])
        for start in range(done * crops, plan.steps * crops, plan.batch_size)
    ]
    pin = torch.cuda.is_available()
    loader = DataLoader(
        training,
        batch_sampler=keys,
        num_workers=plan.workers,
        # what heed_the_training_alone needs; Python 3.14 has another default
        multiprocessing_context="fork" if plan.workers and TELLS_SENDER else None,
        pin_memory=pin,
        worker_init_fn=heed_the_training_alone,
    )
    with starting_helpers():
        batches = iter(loader)
    grouped = zip(*[batches] * plan.accumulate, strict=True)
    title, silent = f"epoch {epoch + 1}/{plan.epochs}", not team.leads
    bar = tqdm(grouped, title, plan.steps, initial=done, mininterval=5, unit="step", disable=silent)
    try:
        yield from bar
    except CryoreadyError as error:  # of a worker, which puts its traceback into the message
        raise CryoreadyError(str(error).rpartition("CryoreadyError: ")[2].strip()) from error


def _backward(
    network: nn.Module,
    batches: Sequence[Batch],
    plan: Plan,
    state: State,
    device: torch.device,
    state_file: Path,
) -> float:
    """The mean loss of the batches of a step; its clipped gradient is left in the network."""
    state.optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for k, batch in enumerate(batches, start=1):
        with nullcontext() if k == len(batches) else alone(network):
            loss = loss_of(network, batch, plan, device) / len(batches)
            keep = partial(_keep, batch, state_file.with_name("batch.npz"))
            total += _finite(loss.item(), "training loss", state, plan, keep)
            loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), plan.clip or math.inf)
    _finite(norm.item(), "norm of the gradient", state, plan, keep)
    return total


def _close_epoch(
    state: State,
    plan: Plan,
    validation: BoxDataset,
    judge: Judge | None,
    device: torch.device,
) -> None:
    """Validate, add the row of the epoch to the history, and keep the weights if they are best."""
    progress, network = state.progress, state.averaged.module
    samples, loss = progress.batch * plan.crops_per_step, progress.loss_sum / progress.batch
    memory = peak_gb(device)
    against = validation_loss(network, validation, plan, device)
    _finite(against, "validation loss", state, plan)
    row = Epoch(
        epoch=len(state.history) + 1,
        train_loss=loss,
        validation_loss=against,
        score=None,
        learning_rate=plan.rate(state.history),
        samples=samples,
        seconds=progress.seconds,
        samples_per_second=samples / progress.seconds,
        memory_gb=memory,
    )
    last = plan.ended([*state.history, row])
    if judge and (last or row.epoch % plan.validate_every == 0):
        score, rows = judge(network.eval())
        row = replace(row, score=score if math.isfinite(score) else None)
        state.judged += [{"epoch": row.epoch, **entry} for entry in rows]
    state.history.append(row)
    if best_epoch(state.history) is row:
        state.best = state.weights


def _moving_average(decay: float) -> Callable[..., None]:
    """Weights ← d · weights + (1 - d) · newest, d = min(decay, (1 + n)/(10 + n)) after n steps.

    Growing, d lets go of the start of a run, which a constant one would keep for 1/(1 - decay)
    steps (as in TensorFlow's ExponentialMovingAverage).
    """

    def update(averages: Any, newest: Any, count: Tensor | int) -> None:
        n = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averages, newest, count)

    return update


def _rate(plan: Plan, state: State) -> float:
    """The learning rate of the next step, warm-up and all."""
    progress = state.progress
    step = len(state.history) * plan.steps + progress.batch + 1
    rate = plan.rate(state.history, progress.seconds, progress.batch / plan.steps)
    return rate * min(1.0, step / max(1, plan.warmup))


def _finite(
    value: float, what: str, state: State, plan: Plan, keep: Callable[[], str] = lambda: ""
) -> float:
    """``value``, unless it is no finite number: that ends the run, after ``keep`` had its turn."""
    if math.isfinite(value):
        return value
    remedies = ["lower train.learning_rate"]
    remedies += ["set train.precision to fp32"] * (plan.precision != "fp32")
    remedies += ["set train.clip to 1"] * (not plan.clip)
    raise CryoreadyError(
        f"the {what} is {value} in epoch {len(state.history) + 1}, batch {state.progress.batch}: "
        f"{' or '.join(remedies)}{keep()}"
    )


def _keep(batch: Batch, path: Path) -> str:
    """Write the batch that broke the training to ``path``, and say so."""
    density, target = (values.numpy() for values in batch)
    with written_whole(path) as part:
        np.savez(part, map=density, target=target)
    return f"; the batch is kept in {path}"


def _pace(plan: Plan, state: State, passed: float, device: torch.device) -> str:
    """Speed, time and memory to expect, from the seconds that the first steps took."""
    epoch = plan.steps * passed / PACE_STEPS / 60
    left = plan.minutes_left(state.history, epoch)
    return (
        f"{PACE_STEPS * plan.crops_per_step / passed:.2f} crops/s at first: {epoch:.1f} min an "
        f"epoch, at most {left:.0f} min in all, and validation; {peak_gb(device):.1f} GB of memory"
    )
