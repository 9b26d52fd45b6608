"""The Slurm job that a training runs in: when its time is up, and how it is queued again."""

import math
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Report = Callable[[str], None]

MARGIN = 120.0  # s before the end of the job in which no step is begun
MOST = 0.1  # of the job's time that the margin may take


@dataclass(frozen=True)
class Allocation:
    """A job of Slurm; times in seconds since the epoch (Unix time)."""

    job: str
    begin: float
    end: float

    @classmethod
    def current(cls, report: Report) -> "Allocation | None":
        """The job of this process; None outside of Slurm, or if Slurm does not say."""
        job = os.environ.get("SLURM_JOB_ID")
        if job is None:
            return None
        try:
            begin, end = _about(job, "%S %e").split()
            return cls(job, float(begin), float(end) if end.isdigit() else math.inf)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            report(
                f"warning: Slurm does not tell when job {job} ends ({error}): the training cannot "
                "stop in time, nor be queued again"
            )
            return None

    @property
    def deadline(self) -> float:
        """When to stop, so that there is time to save."""
        return self.end - min(MARGIN, MOST * (self.end - self.begin))

    def in_vain(self, states: Path) -> bool:
        """Whether the time was up before anything was saved in ``states``: so it would be again."""
        saved = (path.stat().st_mtime for path in states.glob("*/state.pt"))
        return time.time() > self.deadline and max(saved, default=0.0) < self.begin

    def requeue(self, report: Report) -> None:
        """Put this job, which was stopped, into the queue again, under the same number.

        Not one that Slurm is about to end for another reason than lack of time: it was cancelled,
        or its node is taken away, and then Slurm queues it again by itself.
        """
        try:
            state, _, reason = _about(self.job, "%T %r").strip().partition(" ")
            if state == "RUNNING" or reason == "TimeLimit":
                report(f"Slurm job {self.job} is queued again, to go on")
                _ask("scontrol", "requeue", self.job)
        except (OSError, subprocess.CalledProcessError) as error:
            why = getattr(error, "stderr", None) or error
            report(f"warning: Slurm does not queue job {self.job} again: {why}")


def _about(job: str, what: str) -> str:
    return _ask("squeue", "--noheader", f"--jobs={job}", f"--format={what}")


def _ask(*command: str) -> str:
    environment = {**os.environ, "SLURM_TIME_FORMAT": "%s"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
