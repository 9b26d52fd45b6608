"""GPUs for one job: no two jobs of a user on a machine have the same one.

The resource ``gpu`` of a profile counts jobs, but a second Snakemake, or another ``--resources`` on
the command line, knows nothing of it. A lock file does, and a killed process leaves none behind.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from cryoready.core.errors import CryoreadyError
from cryoready.enhance.devices import choose_device

Report = Callable[[str], None]

POLL_SECONDS = 0.5


@contextmanager
def claimed_devices(name: str, number: int, report: Report) -> Iterator[list[torch.device]]:
    """Devices for this job alone, as soon as they are free.

    Parameters
    ----------
    name
        "auto", "cpu" or "cuda", as for `devices.choose_device`.
    number
        of GPUs; 0: all that PyTorch sees.
    report
        told once if the job has to wait.

    Raises
    ------
    CryoreadyError
        if a GPU is asked for and there is none, or fewer than ``number``.
    """
    device = choose_device(name)
    if device.type == "cpu":
        if number and name == "auto" and os.environ.get("SLURM_JOB_ID"):
            report("warning: the job has a GPU, but PyTorch finds none here: it works on the CPU")
        yield [device]
        return
    ids = [str(torch.cuda.get_device_properties(k).uuid) for k in range(torch.cuda.device_count())]
    with claimed(ids, number or len(ids), report) as chosen:
        yield [torch.device("cuda", k) for k in chosen]


@contextmanager
def claimed(
    ids: Sequence[str], number: int, report: Report, folder: Path | None = None
) -> Iterator[list[int]]:
    """Positions in ``ids`` of ``number`` that no other process of this user has claimed.

    All or none are taken, so that two jobs that want several cannot wait for each other.

    Raises
    ------
    CryoreadyError
        if there are fewer than ``number``.
    """
    if number > len(ids):
        raise CryoreadyError(
            f"{number} GPUs are wanted, but there are {len(ids)} here: lower the resource gpu of "
            "the rule in the profile (--set-resources), or train.devices"
        )
    folder = folder or Path(tempfile.gettempdir()) / f"cryoready-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    told = False
    with ExitStack() as held:
        while len(free := _free(ids, number, folder, held)) < number:
            if not told:
                report(f"waits for {number} of {len(ids)} GPUs: other jobs use them")
                told = True
            time.sleep(POLL_SECONDS)
        yield free


def _free(ids: Sequence[str], number: int, folder: Path, held: ExitStack) -> list[int]:
    """Those that could be locked; their locks go to ``held`` if they suffice."""
    with ExitStack() as locks:
        found: list[int] = []
        for k, name in enumerate(ids):
            try:
                locks.enter_context(FileLock(folder / f"{name}.lock", blocking=False))
            except Timeout:
                continue
            found.append(k)
            if len(found) == number:
                held.push(locks.pop_all())
                break
        return found
