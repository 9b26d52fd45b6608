"""A scheduler known only by its commands (profiles/generic): here Slurm, asked for its records."""

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import yaml

from checkout import ROOT, Checkout, Finished, copy_checkout, kill

STATUS = ROOT / "profiles" / "generic" / "status.sh"
PROFILE = yaml.safe_load((ROOT / "profiles" / "generic" / "config.yaml").read_text())
GENERIC = (
    *("--workflow-profile=profiles/generic", "--latency-wait=5", "--retries=0"),
    "--seconds-between-status-checks=1",
)
TARGETS = ("results/good_emready.mrc", "results/zeros_emready.mrc")
FIELDS = ("State", "Partition", "AllocCPUS", "ReqMem", "TimelimitRaw", "ReqTRES")


@pytest.fixture(scope="module")
def maps(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with two maps: a good one, and one of zeros, which cannot be enhanced."""
    checkout = copy_checkout(tmp_path_factory.mktemp("generic"))
    (checkout / "maps/good.map.gz").symlink_to(ROOT / "resources/small/EMD-2566-9.map.gz")
    mrcfile.write(checkout / "maps/zeros.mrc", np.zeros((32, 32, 32), np.float32), voxel_size=1.0)
    return checkout


@pytest.fixture(scope="module")
def ran(maps: Checkout) -> Finished:
    asked = [f"enhance:{what}" for what in ("mem_mb=3000", "runtime=7", "gpu=1")]
    return maps.snakemake(*TARGETS, "--set-resources", *asked, *GENERIC, cores=None)


def submitted(text: str) -> list[str]:
    """Numbers that the scheduler gave to the jobs of a run."""
    return re.findall(r"external jobid '(\d+)'", text)


def record(job: str) -> dict[str, str]:
    """What Slurm knows of a job."""
    call = ["sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={job}"]
    line = subprocess.check_output([*call, f"--format={','.join(FIELDS)}"], text=True)
    return dict(zip(FIELDS, line.strip().split("|"), strict=True)) if line else {"State": ""}


def wait(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_job_gets_what_its_rule_asks_for(ran: Finished) -> None:
    jobs = [record(job) for job in submitted(ran.err)]
    assert len(jobs) == 2, ran.err
    for job in jobs:
        assert (job["Partition"], job["AllocCPUS"]) == ("gpu", "4")
        assert (job["ReqMem"], job["TimelimitRaw"]) == ("3000M", "7")
        assert "gres/gpu=1" in job["ReqTRES"]


def test_a_failed_job_is_noticed_and_stops_no_other(ran: Finished, maps: Checkout) -> None:
    assert ran.code != 0
    assert sorted(record(job)["State"] for job in submitted(ran.err)) == ["COMPLETED", "FAILED"]
    assert [path in maps.files() for path in ("good_emready.mrc", "zeros_emready.mrc")] == [1, 0]
    assert "Error in rule enhance" in ran.err
    assert ran.error.startswith("zeros  enhance: map maps/zeros.mrc has the value 0.0 everywhere")


@pytest.fixture
def held(maps: Checkout) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A run whose two jobs wait in the queue, and their numbers."""
    submit = PROFILE["cluster-generic-submit-cmd"] + " --hold"
    command = (f"--cluster-generic-submit-cmd={submit}", "--forcerun=enhance", "--nolock", *TARGETS)
    process = maps.start(*GENERIC, *command)
    try:
        jobs = []
        while len(jobs) < 2:
            line = process.stderr.readline()
            assert line, "Snakemake ended"
            jobs += submitted(line)
        yield process, jobs
    finally:
        kill(process)


def test_a_job_that_is_killed_is_noticed_and_interruption_cancels(
    held: tuple[subprocess.Popen[str], list[str]],
) -> None:
    """One that the scheduler ends can tell nobody; it has to be asked."""
    process, (first, second) = held
    wait(lambda: record(second)["State"] == "PENDING")
    subprocess.run(["scancel", first], check=True)
    while (line := process.stderr.readline()) and "Error in rule enhance" not in line:
        assert process.poll() is None
    assert record(second)["State"] == "PENDING"
    time.sleep(3)  # while Snakemake reports a failure, an interruption can get lost
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=150)  # it waits for status.sh, which may ask for 87 s
    wait(lambda: record(second)["State"].startswith("CANCELLED"))


PBS = "Job Id: 7.server\n    Job_Name = enhance\n    job_state = {}\n    {}\n"
SGE = "qname        all.q\njobnumber    7\nfailed       {}\nexit_status  {}\nru_wallclock 3s\n"


@pytest.mark.parametrize(
    ("scheduler", "commands", "status"),
    [
        ("slurm", {"sacct": "PENDING"}, "running"),
        ("slurm", {"sacct": "COMPLETED"}, "success"),
        ("slurm", {"sacct": "OUT_OF_MEMORY"}, "failed"),
        ("slurm", {"sacct": "CANCELLED by 0"}, "failed"),
        ("pbs", {"qstat": PBS.format("Q", "")}, "running"),
        ("pbs", {"qstat": PBS.format("F", "Exit_status = 0")}, "success"),
        ("pbs", {"qstat": PBS.format("F", "Exit_status = 271")}, "failed"),
        ("sge", {"qstat": "job_number: 7"}, "running"),
        ("sge", {"qacct": SGE.format(0, 0)}, "success"),
        ("sge", {"qacct": SGE.format(0, 137)}, "failed"),
        ("sge", {"qacct": SGE.format(100, 0)}, "failed"),
        ("lsf", {"bjobs": "PEND"}, "running"),
        ("lsf", {"bjobs": "PSUSP"}, "running"),
        ("lsf", {"bjobs": "DONE"}, "success"),
        ("lsf", {"bjobs": "EXIT"}, "failed"),
    ],
)
def test_what_schedulers_say_is_understood(
    tmp_path: Path, scheduler: str, commands: dict[str, str], status: str
) -> None:
    """Pretended commands that print what the manuals of the schedulers show."""
    for name in ("sacct", "qstat", "qacct", "bjobs"):
        text = commands.get(name)
        answer = "exit 1" if text is None else f"cat <<'END'\n{text}\nEND"
        (tmp_path / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / name).chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    said = subprocess.check_output([STATUS, scheduler, "7"], env=path, text=True)
    assert said == f"{status}\n"
