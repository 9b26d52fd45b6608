"""Folders with the states of runs: each is held by one process at a time, and is kept to the end.

Snakemake deletes the declared outputs of a job that failed, also of one that had come to its end
when its node died or was signalled. So a state lies outside of them, and goes when Snakemake knows
that the outputs are whole (`remove_ended`, at the end of a run of the workflow).
"""

import os
import shutil
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import written_whole

Report = Callable[[str], None]

HOLDER = "holder"  # file that names the process
ENDED = "ended"  # file that names the weights which the run has left
LEASE = 180.0  # s after which file servers forget the locks of a dead computer (NFS: 90)
LINGER = 10.0  # s that processes which make crops may outlive a killed training, with its lock


@contextmanager
def state_folder(
    root: Path, key: str, report: Report = lambda line: None, patience: float = LEASE
) -> Iterator[Path]:
    """The folder of the resumable state of run ``key``, held by one process at a time.

    The lock, a file beside the folder, belongs to the process, so a killed run leaves none behind;
    that of a computer that died most file servers give up after some time, which is waited for:
    ``patience`` (s).

    Raises
    ------
    CryoreadyError
        if another process trains the same run.
    """
    folder = root / key
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f"{key}.lock", fallback_to_soft=False)
    _hold(lock, folder, report, patience)
    try:
        (folder / HOLDER).write_text(f"{socket.gethostname()}, process {os.getpid()}")
        yield folder
    finally:
        # who waits for it notices, and makes a new one
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def mark_ended(folder: Path, weights: Path) -> None:
    """The run of this folder has come to its end, and left ``weights``."""
    with written_whole(folder / ENDED) as part:
        part.write_text(str(weights))


def remove_ended(root: Path, outputs: Collection[str]) -> None:
    """Remove the folders of runs that came to their end, if ``outputs`` has the weights they left.

    A forced run then starts anew.

    Parameters
    ----------
    root
        folder of the states of all runs.
    outputs
        files that Snakemake knows to be whole.
    """
    for mark in root.glob(f"*/{ENDED}"):
        if mark.read_text() in outputs:
            shutil.rmtree(mark.parent, ignore_errors=True)


def _hold(lock: BaseFileLock, folder: Path, report: Report, patience: float) -> None:
    """Lock the file, if need be when the process of another host that held it is gone."""
    try:
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return
        holder = (folder / HOLDER).read_text() if (folder / HOLDER).is_file() else "a new process"
        if holder.startswith(f"{socket.gethostname()},"):
            patience = min(patience, LINGER)
        if patience:
            report(f"{folder} is held by {holder}: waits up to {patience:.0f} s, should it be dead")
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise CryoreadyError(
            f"{folder} is in use by {holder}: this very run is being trained there; wait for it or "
            f"stop it, or, if that computer is dead, delete {lock.lock_file}"
        ) from error
    except (OSError, NotImplementedError) as error:
        report(
            f"warning: {lock.lock_file} cannot be locked here ({error}): see to it that nothing "
            "else trains this run"
        )
