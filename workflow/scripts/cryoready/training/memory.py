"""How large a network is, how much memory it takes, and what to do when there is not enough."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from cryoready.core.errors import CryoreadyError
from cryoready.enhance.devices import peak_memory, ran_out_of_memory
from cryoready.training.plan import Plan


def count_parameters(network: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(values.numel() for values in network.parameters())


def peak_gb(device: torch.device) -> float:
    """Most memory in use, 10⁹ bytes: of the GPU since `forget_peak`, of the process ever."""
    return peak_memory([device])["GPU" if device.type == "cuda" else "host"]


@contextmanager
def enough_memory(plan: Plan, devices: int, device: torch.device) -> Iterator[None]:
    """The body, or one line on how to make do with less memory.

    Raises
    ------
    CryoreadyError
        if the body runs out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        raise CryoreadyError(
            f"out of memory on {device} at train.batch_size = {plan.batch_size} "
            f"({peak_gb(device):.1f} GB in use): {_advice(plan, devices)}"
        ) from error


def smaller_batch(plan: Plan, devices: int) -> int | None:
    """The largest batch of at most half the size that makes up the same step on all devices."""
    sizes = range(plan.batch_size // 2, 0, -1)
    return next((n for n in sizes if plan.batch_size % n == 0 and n % devices == 0), None)


def _advice(plan: Plan, devices: int) -> str:
    size = smaller_batch(plan, devices)
    if size is None:
        return "lower train.crop_voxels or network.width, or set train.precision to bf16"
    return (
        f"set train.batch_size to {size} and train.accumulate to {plan.crops_per_step // size} "
        "and run again; the result is the same"
    )
