"""When the Slurm job of a training ends, and that it is queued again, by pretended commands.

A real Slurm is asked in tests/cluster/test_survival.py.
"""

import math
import os
import time

import pytest

from cryoready.training.allocation import Allocation


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A function that gives a command of Slurm its answer; commands without one fail."""

    def answers(name, text):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for name in ("squeue", "scontrol"):
        answers(name, "echo broken >&2; exit 1")
    return answers


@pytest.mark.parametrize(
    ("end", "deadline"),
    [("1001000", 1000900), ("1010000", 1009880), ("NONE", math.inf), ("N/A", math.inf)],
)
def test_no_step_is_begun_in_the_last_two_minutes_or_tenth(slurm, end, deadline):
    slurm("squeue", f"echo 1000000 {end}")
    assert Allocation.current(pytest.fail).deadline == deadline


@pytest.mark.parametrize("text", ["exit 1", "true"])
def test_a_slurm_that_does_not_tell_is_a_warning(slurm, text):
    slurm("squeue", text)
    lines = []
    assert Allocation.current(lines.append) is None
    assert "does not tell when job 7 ends" in lines[0]


def test_outside_of_slurm_there_is_none(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert Allocation.current(pytest.fail) is None


@pytest.mark.parametrize(
    ("end", "saved", "vain"),
    [(-1, None, True), (-1, -200, True), (-1, -50, False), (100, None, False)],
)
def test_a_job_that_was_too_short_to_save_anything_was_in_vain(tmp_path, end, saved, vain):
    """s from now; another turn, as short, would be, too. It began 100 s ago."""
    now = time.time()
    if saved is not None:
        (tmp_path / "key").mkdir()
        (tmp_path / "key/state.pt").touch()
        os.utime(tmp_path / "key/state.pt", (now + saved, now + saved))
    assert Allocation("7", now - 100, now + end).in_vain(tmp_path) == vain


@pytest.mark.parametrize(
    ("state", "queued"),
    [("RUNNING None", 1), ("COMPLETING TimeLimit", 1), ("COMPLETING None", 0), ("PENDING", 0)],
)
def test_only_a_job_that_slurm_would_let_go_on_is_queued_again(slurm, tmp_path, state, queued):
    """A cancelled one ends, and one whose node is taken away is queued by Slurm itself."""
    slurm("squeue", f"echo {state}")
    slurm("scontrol", f"echo $* >> {tmp_path}/asked")
    Allocation("7", 0, 1).requeue(lambda line: None)
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else "") == queued * "requeue 7\n"


def test_a_slurm_that_does_not_queue_it_is_a_warning(slurm):
    lines = []
    Allocation("7", 0, 1).requeue(lines.append)
    slurm("squeue", "echo RUNNING None")
    Allocation("7", 0, 1).requeue(lines.append)
    warnings = [line for line in lines if line.startswith("warning: Slurm does not queue job 7")]
    assert len(warnings) == 2
    assert all("broken" in line for line in warnings)
