"""Snakemake whose jobs Slurm runs, through profiles/slurm as it ships."""

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import yaml

from checkout import ROOT, Checkout, Finished
from slurm_jobs import Job, records

PROFILE = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
# The test cluster has the profile's account and partitions; only the patience is not for tests.
SLURM = (
    *("--workflow-profile", "profiles/slurm", "--latency-wait", "5"),
    *("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"),
)


@dataclass(frozen=True)
class Ran:
    """A run that ended."""

    checkout: Checkout
    finished: Finished
    jobs: list[Job]

    def of(self, rule: str, wildcards: str | None = None) -> list[Job]:
        """The jobs of a rule, or those with these wildcards."""
        found = [job for job in self.jobs if job.rule == rule]
        return [job for job in found if wildcards in (None, job.wildcards)]


def run_id(said: str) -> str:
    """The name that all jobs of a run have."""
    return re.search(r"SLURM run ID: (\S+)", said)[1]


def on_slurm(checkout: Checkout, *arguments: str) -> Ran:
    """``snakemake ARGUMENTS`` on Slurm, to its end."""
    finished = checkout.snakemake(*SLURM, *arguments, cores=None)
    assert "SLURM run ID" in finished.err, finished.err
    return Ran(checkout, finished, records(run_id(finished.err)))


def begin(checkout: Checkout, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """``snakemake ARGUMENTS`` on Slurm, under way, and the name of the run."""
    process = checkout.start(*SLURM, *arguments)
    said = []
    for line in process.stderr:
        said.append(line)
        if "SLURM run ID" in line:
            return process, run_id(line)
    raise AssertionError("".join(said))


def asking(rule: str, **amounts: int | str) -> tuple[str, ...]:
    """Other resources for a rule; the option replaces the profile's, so that is repeated."""
    asked = dict(PROFILE["set-resources"])
    asked[rule] = asked.get(rule, {}) | amounts
    pairs = ((rule, *pair) for rule, named in asked.items() for pair in named.items())
    return ("--set-resources", *(f"{rule}:{name}={amount}" for rule, name, amount in pairs))


def until(true: Callable[[], bool], seconds: float) -> float:
    """Wait for something that must happen; how long it took."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() < start + seconds, f"not within {seconds} s"
        time.sleep(0.2)
    return time.monotonic() - start
