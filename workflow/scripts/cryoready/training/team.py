"""Several processes that train one network, each on its device."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from cryoready.core.errors import CryoreadyError
from cryoready.enhance.devices import make_current

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """One process among ``size`` equal ones; process 0 judges, reports and writes.

    The default is a process on its own, for which nothing here costs anything.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def part(self, batch: list[T]) -> list[T]:
        """The share of ``batch`` that is this process's.

        Raises
        ------
        CryoreadyError
            if the batch cannot be shared equally.
        """
        if len(batch) % self.size:
            raise CryoreadyError(
                f"configuration: train.batch_size = {len(batch)} must be a multiple of the "
                f"{self.size} devices: each takes its share of a batch"
            )
        share = len(batch) // self.size
        return batch[self.rank * share : (self.rank + 1) * share]

    def shared(self, network: nn.Module, device: torch.device) -> nn.Module:
        """``network`` with gradients that are the means over all processes."""
        if self.size == 1:
            return network
        ids = None if device.index is None else [device.index]
        return DistributedDataParallel(network, device_ids=ids)

    def mean(self, *values: float) -> list[float]:
        """Means over all processes, the same in each."""
        if self.size == 1:
            return list(values)
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        sums = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(sums)
        return [float(value) / self.size for value in sums]

    def agree(self, value: T) -> T:
        """What process 0 says; the others wait for it."""
        if self.size == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        if distributed.get_backend() == "nccl":
            torch.cuda.synchronize()  # process 0 may end next: not before it is sent
        return said[0]


ALONE = Team()


def alone(network: nn.Module) -> AbstractContextManager[None]:
    """Gradients stay in this process: another batch of the same step is to come."""
    if isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return nullcontext()


@contextmanager
def team_of_torchrun() -> Iterator[tuple[Team, torch.device]]:
    """The place of a process that torchrun started among the others, and its device."""
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    make_current(device)
    # process 0 judges maps for many minutes while the others wait
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(days=1))
    yield Team(distributed.get_rank(), distributed.get_world_size()), device
    distributed.destroy_process_group()  # waits for the others: not if one of them failed
