"""The training loop: one loop, resumable at any moment."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from cryoready.core.errors import CryoreadyError
from cryoready.density.normalise import NETWORK_SCALE
from cryoready.network.checkpoint import load_training_state, save_training_state
from cryoready.training.box_dataset import BoxDataset
from cryoready.training.losses import emready_loss


@dataclass(frozen=True)
class Plan:
    """How to train. Defaults are the paper's where it states them.

    Parameters
    ----------
    epochs
        upper limit.
    batch_size
        crops a step.
    boxes_per_epoch
        crops between two validations; None: all boxes once.
    learning_rate, smallest_learning_rate
        of Adam, at the start and at the end.
    schedule
        "plateau" halves the rate when the validation loss stalls; "cosine" falls smoothly to the
        smallest rate at the last epoch.
    patience
        epochs without progress before the rate is halved.
    beta, smooth_l1, ssim
        of the loss (`losses.emready_loss`).
    clip
        largest norm of the gradient; 0: none.
    precision
        "fp32" or "bf16" (autocast).
    checkpoint_minutes
        between two saved states.
    """

    epochs: int = 300
    batch_size: int = 4
    boxes_per_epoch: int | None = None
    learning_rate: float = 5e-4
    smallest_learning_rate: float = 1e-5
    schedule: str = "plateau"
    patience: int = 4
    beta: float = 1.0
    smooth_l1: float = 1.0
    ssim: float = 1.0
    clip: float = 1.0
    precision: str = "fp32"
    checkpoint_minutes: float = 5.0
    workers: int = 0

    def scheduler(self, optimizer: Adam) -> LRScheduler:
        """The schedule, stepped once an epoch with the validation loss."""
        if self.schedule == "cosine":
            return CosineAnnealingLR(optimizer, self.epochs, self.smallest_learning_rate)
        return ReduceLROnPlateau(
            optimizer, factor=0.5, patience=self.patience, min_lr=self.smallest_learning_rate
        )

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """The arithmetic of the forward pass."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")


@dataclass(frozen=True)
class Epoch:
    """One row of history.tsv."""

    epoch: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    samples: int
    seconds: float


@dataclass
class Progress:
    """Where a run stands; saved and restored with the network and the optimiser."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0


def loss_of(network: nn.Module, batch: list[Tensor], plan: Plan, device: torch.device) -> Tensor:
    """The loss of one batch of maps and targets, each (n, 1, z, y, x), 0-1."""
    density, target = (values.to(device, non_blocking=True) for values in batch)
    with plan.autocast(device):
        prediction = network(density * NETWORK_SCALE) / NETWORK_SCALE
    return emready_loss(
        prediction, target, beta=plan.beta, smooth_l1=plan.smooth_l1, ssim=plan.ssim
    )


def validation_loss(
    network: nn.Module, dataset: BoxDataset, plan: Plan, device: torch.device
) -> float:
    """Mean loss over the central crops of ``dataset``, without augmentation."""
    network.eval()
    total = 0.0
    with torch.inference_mode():
        for batch in DataLoader(dataset, plan.batch_size):
            total += float(loss_of(network, batch, plan, device)) * len(batch[0])
    return total / len(dataset)


def train(
    network: nn.Module,
    training: BoxDataset,
    validation: BoxDataset,
    plan: Plan,
    *,
    state_file: Path,
    device: torch.device,
    on_epoch: Callable[[list[Epoch]], None] = lambda history: None,
) -> tuple[list[Epoch], dict[str, Tensor]]:
    """Train ``network`` in place and leave it with the weights of the best epoch.

    A run that was killed goes on from ``state_file`` with the same samples in the same order: on
    one CPU with the same number of threads the result is bit-identical to an uninterrupted run.

    Parameters
    ----------
    network
        takes and returns (n, 1, z, y, x), 0-100.
    training, validation
        boxes; the first with a seed, the second without.
    plan
        hyperparameters.
    state_file
        everything needed to go on; written every few minutes and after every epoch.
    device
        where to compute.
    on_epoch
        called with the history after every epoch.

    Returns
    -------
    The history, one row an epoch, and the weights of the last epoch.

    Raises
    ------
    CryoreadyError
        if the loss is not finite, or the saved state is damaged or of another run.
    """
    network.to(device)
    optimizer = Adam(network.parameters(), lr=plan.learning_rate)
    scheduler = plan.scheduler(optimizer)
    progress, history, best = Progress(), list[Epoch](), dict[str, Any]()

    def save() -> None:
        save_training_state(
            state_file,
            {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "progress": asdict(progress),
                "history": [asdict(row) for row in history],
                "best": best,
            },
        )

    if state_file.exists():
        state = load_training_state(state_file)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        progress, best = Progress(**state["progress"]), state["best"]
        history = [Epoch(**row) for row in state["history"]]

    while progress.epoch < plan.epochs:
        samples = training.order(progress.epoch)[: plan.boxes_per_epoch]
        saved = time.monotonic()
        started = saved - progress.seconds
        network.train()
        for batch in _batches(training, samples, plan, progress):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(network, batch, plan, device)
            value = _finite(loss.detach().item(), "training", progress)
            loss.backward()
            if plan.clip:
                nn.utils.clip_grad_norm_(network.parameters(), plan.clip)
            optimizer.step()
            progress.loss_sum += value * len(batch[0])
            progress.batch += 1
            progress.seconds = time.monotonic() - started
            if time.monotonic() - saved > 60 * plan.checkpoint_minutes:
                saved = time.monotonic()
                save()
        row = Epoch(
            progress.epoch + 1,
            progress.loss_sum / len(samples),
            _finite(validation_loss(network, validation, plan, device), "validation", progress),
            optimizer.param_groups[0]["lr"],
            len(samples),
            progress.seconds,
        )
        history.append(row)
        if row.validation_loss <= min(past.validation_loss for past in history):
            best = {name: value.cpu().clone() for name, value in network.state_dict().items()}
        _step(scheduler, row.validation_loss)
        progress = Progress(epoch=progress.epoch + 1)
        save()
        on_epoch(history)
    last = {name: value.cpu().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(best)
    return history, last


def _batches(
    dataset: BoxDataset, samples: list[int], plan: Plan, progress: Progress
) -> Iterator[list[Tensor]]:
    """The batches of this epoch that are still to come."""
    rest = samples[progress.batch * plan.batch_size :]
    loader = DataLoader(Subset(dataset, rest), plan.batch_size, num_workers=plan.workers)
    total = -(-len(samples) // plan.batch_size)
    title = f"epoch {progress.epoch + 1}/{plan.epochs}"
    yield from tqdm(loader, title, total, initial=progress.batch, mininterval=5, unit="batch")


def _step(scheduler: LRScheduler, loss: float) -> None:
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(loss)
    else:
        scheduler.step()


def _finite(loss: float, kind: str, progress: Progress) -> float:
    if not math.isfinite(loss):
        raise CryoreadyError(
            f"the {kind} loss is {loss} in epoch {progress.epoch + 1}, batch {progress.batch}: "
            "lower train.learning_rate or set train.precision to fp32"
        )
    return loss
