"""The Slurm job that a training runs in: when its time is up, and how it is queued again."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

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
    def current(cls) -> "Allocation | None":
        """The job of this process; None outside of Slurm, or if Slurm does not say."""
        job = os.environ.get("SLURM_JOB_ID")
        if job is None:
            return None
        try:
            begin, end = _ask("squeue", "--noheader", f"--jobs={job}", "--format=%S %e").split()
            return cls(job, float(begin), float(end))
        except (OSError, ValueError, subprocess.CalledProcessError):  # ValueError: no time limit
            return None

    @property
    def deadline(self) -> float:
        """When to stop, so that there is time to save."""
        return self.end - min(MARGIN, MOST * (self.end - self.begin))

    def requeue(self, report: Report) -> None:
        """Put this job, which was stopped, into the queue again, under the same number.

        Not if it was cancelled. Slurm says only that it is about to end the job, which it also does
        when it takes the job's node away, and then queues it again by itself; or when the time is
        up, after which it does not.
        """
        try:
            state = _ask("squeue", "--noheader", f"--jobs={self.job}", "--format=%T").strip()
            if state == "RUNNING" or time.time() > self.deadline:
                report(f"Slurm job {self.job} is queued again, to go on")
                _ask("scontrol", "requeue", self.job)
        except subprocess.CalledProcessError as error:
            report(f"warning: Slurm does not queue job {self.job} again: {error.stderr.strip()}")


def _ask(*command: str) -> str:
    environment = {**os.environ, "SLURM_TIME_FORMAT": "%s"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
