"""How to train, and what the history so far says about how to go on."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from cryoready.training.losses import check_weights

STALL = 1e-4  # of the best loss: a smaller gain is no progress


@dataclass(frozen=True)
class Epoch:
    """One row of history.tsv.

    Parameters
    ----------
    epoch
        from 1.
    train_loss, validation_loss
        means over the crops of the epoch and over those to validate on.
    score
        of the real metrics, the higher the better; None where they were not taken.
    learning_rate
        at the start of the epoch, without the warm-up.
    samples, seconds, samples_per_second
        crops trained on, and the time that took.
    memory_gb
        most memory in use (of the GPU, or of the process), 10⁹ bytes.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    score: float | None
    learning_rate: float
    samples: int
    seconds: float
    samples_per_second: float
    memory_gb: float


@dataclass(frozen=True)
class Plan:
    """How to train. Defaults are the paper's where it states them.

    Parameters
    ----------
    epochs
        upper limit.
    minutes
        limit of the time spent in training, validation not counted; None: no limit.
    batch_size, accumulate
        crops at a time, on all devices together, and how many times so many make a step.
    boxes_per_epoch
        crops between two validations, rounded up to whole steps.
    learning_rate, smallest_learning_rate
        of Adam, at the start and at the end.
    warmup
        steps until the learning rate is reached, in proportion.
    schedule
        "plateau" halves the rate when the validation loss stalls; "cosine" falls step by step to
        the smallest rate at the end of the last epoch, or at the last minute if that comes first.
    patience
        epochs without progress before the rate is halved.
    ema
        decay a step of the exponential moving average of the weights, which is what is judged and
        kept; 0: the weights themselves.
    stop_after
        epochs without a new best one before the run ends; None: never.
    validate_every
        epochs between two validations by the real metrics; 0: the loss decides.
    loss, beta
        weights of the terms by name, and the bend of smooth-L1 (`losses.total_loss`).
    clip
        largest norm of the gradient; 0: none.
    precision
        "fp32" or "bf16" (autocast).
    checkpoint_minutes
        between two saved states.
    workers
        processes that make crops, for each device; 0: the training itself does.

    Raises
    ------
    CryoreadyError
        if ``loss`` cannot be computed.
    """

    epochs: int = 300
    minutes: float | None = None
    batch_size: int = 4
    accumulate: int = 1
    boxes_per_epoch: int = 1000
    learning_rate: float = 5e-4
    smallest_learning_rate: float = 1e-5
    warmup: int = 0
    schedule: str = "plateau"
    patience: int = 4
    ema: float = 0.0
    stop_after: int | None = None
    validate_every: int = 0
    loss: Mapping[str, float] = field(default_factory=lambda: {"smooth_l1": 1.0, "ssim": 1.0})
    beta: float = 1.0
    clip: float = 1.0
    precision: str = "fp32"
    checkpoint_minutes: float = 5.0
    workers: int = 0

    def __post_init__(self) -> None:
        check_weights(self.loss)

    @property
    def crops_per_step(self) -> int:
        """On all devices together."""
        return self.batch_size * self.accumulate

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-self.boxes_per_epoch // self.crops_per_step)

    def rate(self, history: Sequence[Epoch], now: float = 0.0, share: float = 0.0) -> float:
        """The learning rate when ``now`` seconds and a ``share`` of the next epoch are over."""
        low, high = self.smallest_learning_rate, self.learning_rate
        if self.schedule == "cosine":
            passed = (len(history) + share) / self.epochs
            if self.minutes:
                passed = max(passed, (seconds(history) + now) / (60 * self.minutes))
            return low + (high - low) * (1 + math.cos(math.pi * min(passed, 1.0))) / 2
        stalls = count_stalls([row.validation_loss for row in history], self.patience)
        return max(low, high / 2**stalls)

    def out_of_time(self, history: Sequence[Epoch], now: float = 0.0) -> bool:
        """Whether ``history`` and ``now`` seconds of the next epoch use the minutes up."""
        return self.minutes is not None and seconds(history) + now >= 60 * self.minutes

    def minutes_left(self, history: Sequence[Epoch], epoch_minutes: float) -> float:
        """The most that is to come after ``history``, validation not counted."""
        left = (self.epochs - len(history)) * epoch_minutes
        if self.minutes is not None:
            left = min(left, self.minutes - seconds(history) / 60)
        return max(left, 0.0)

    def ended(self, history: Sequence[Epoch]) -> bool:
        """Whether there is nothing more to do."""
        idle = len(history) - best_epoch(history).epoch if history else 0
        return (
            len(history) >= self.epochs
            or self.out_of_time(history)
            or (self.stop_after is not None and idle >= self.stop_after)
        )

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """The arithmetic of the forward pass."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")


def seconds(history: Sequence[Epoch]) -> float:
    """Spent in training so far."""
    return sum(row.seconds for row in history)


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The first of the highest score; where there is none, of the lowest validation loss."""
    scored = [row for row in history if row.score is not None]
    if scored:
        return max(scored, key=lambda row: row.score or 0.0)
    return min(history, key=lambda row: row.validation_loss)


def count_stalls(losses: Sequence[float], patience: int) -> int:
    """How often more than ``patience`` epochs in a row brought no progress."""
    best, idle, stalls = math.inf, 0, 0
    for loss in losses:
        best, idle = (loss, 0) if loss < best * (1 - STALL) else (best, idle + 1)
        if idle > patience:
            stalls, idle = stalls + 1, 0
    return stalls
