"""The Slurm job that a training runs in: when its time is up, and how it is queued again."""

import os
import subprocess
from dataclasses import dataclass

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

    def requeue(self) -> None:
        """End this job and put it into the queue again, under the same number.

        Raises
        ------
        subprocess.CalledProcessError
            if Slurm refuses.
        """
        _ask("scontrol", "requeue", self.job)


def _ask(*command: str) -> str:
    environment = {**os.environ, "SLURM_TIME_FORMAT": "%s"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
