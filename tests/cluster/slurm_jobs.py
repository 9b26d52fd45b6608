"""Slurm's own records of jobs, and a table of them: python tests/cluster/slurm_jobs.py RUN_ID

The id of a run is what Snakemake says at its start: "SLURM run ID".
"""

import re
import subprocess
import sys
from dataclasses import dataclass, replace

import pandas as pd

FIELDS = (
    *("JobIDRaw", "State", "Partition", "NodeList", "AllocCPUS", "ReqTRES", "ReqMem"),
    *("TimelimitRaw", "ElapsedRaw", "MaxRSS"),
    "SubmitLine",  # with the comment, which is a field of its own only when the job has ended
)
MEGABYTES = {"": 2**-20, "K": 2**-10, "M": 1.0, "G": 2.0**10, "T": 2.0**20}


@dataclass(frozen=True)
class Job:
    """A job, or one of the turns of a job that was requeued."""

    id: int
    rule: str  # empty until the job starts
    wildcards: str
    state: str  # the word alone: CANCELLED, not "CANCELLED by 0"
    partition: str
    node: str
    cpus: int
    gpus: int  # asked for
    memory: float  # MiB, asked for
    used: float  # MiB, the largest resident memory of a step
    limit: int  # minutes
    seconds: int


def megabytes(text: str) -> float:
    """Slurm's 8000M, 335120K or nothing, in MiB."""
    number, unit = re.fullmatch(r"([\d.]*)([KMGT]?)", text).groups()
    return float(number or 0) * MEGABYTES[unit]


def job(row: dict[str, str]) -> Job:
    """A job from a line of sacct, which has the memory of its steps on further lines."""
    made_by = re.search(r"--comment rule_(\w+?)(?:_wildcards_(\S+))? ", row["SubmitLine"])
    gpus = re.search(r"gres/gpu=(\d+)", row["ReqTRES"])
    return Job(
        id=int(row["JobIDRaw"]),
        rule=made_by[1] if made_by else "",
        wildcards=(made_by and made_by[2]) or "",
        state=row["State"].split()[0],
        partition=row["Partition"],
        node=row["NodeList"],
        cpus=int(row["AllocCPUS"]),
        gpus=int(gpus[1]) if gpus else 0,
        memory=megabytes(row["ReqMem"]),
        used=0.0,
        limit=int(row["TimelimitRaw"]) if row["TimelimitRaw"].isdigit() else 0,
        seconds=int(row["ElapsedRaw"]),
    )


def records(run: str) -> list[Job]:
    """All jobs of a run in the order of submission, each turn of a requeued one for itself."""
    call = ["sacct", "--starttime=now-30days", "--name", run]
    call += ["--parsable2", "--noheader", "--duplicates"]
    found: list[Job] = []
    for line in subprocess.check_output([*call, "-o", ",".join(FIELDS)], text=True).splitlines():
        row = dict(zip(FIELDS, line.split("|", len(FIELDS) - 1), strict=True))
        if row["JobIDRaw"].isdigit():
            found.append(job(row))
        else:  # a step of the last one
            used = max(found[-1].used, megabytes(row["MaxRSS"]))
            found[-1] = replace(found[-1], used=used)
    return found


def table(jobs: list[Job]) -> str:
    """What the jobs of each rule asked for and used, at most, in Markdown."""
    rows = pd.DataFrame([vars(one) for one in jobs])
    groups = rows.groupby(["rule", "state", "partition", "cpus", "gpus"], sort=False)
    most = groups[["memory", "used", "limit", "seconds"]].max()
    head = (
        "| rule | jobs | state | partition | CPUs | GPUs | memory asked, MiB | used, MiB "
        "| time limit, min | used, s |\n|---|--:|---|---|--:|--:|--:|--:|--:|--:|\n"
    )
    return head + "".join(
        f"| {x.rule} | {x.jobs} | {x.state} | {x.partition} | {x.cpus} | {x.gpus} "
        f"| {x.memory:.0f} | {x.used:.0f} | {x.limit} | {x.seconds} |\n"
        for x in most.assign(jobs=groups.size()).reset_index().itertuples()
    )


if __name__ == "__main__":
    print(table(records(sys.argv[1])), end="")
