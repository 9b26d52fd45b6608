"""The table of what failed: reasons, rows of earlier runs, what the user sees."""

import os
import time
from pathlib import Path

import pytest

from cryoready.report.failures import (
    SHOWN,
    UNSAID,
    Failure,
    reason_of,
    scheduler_messages,
    summary,
    update_table,
)

# As Snakemake 9.27 with its Slurm plugin writes it
SNAKEMAKE_LOG = """\
Error in rule enhance:
    message: SLURM-job '7' failed, SLURM status is: 'NODE_FAIL'.
    jobid: 2
    output: results/a_emready.mrc
Error in rule enhance:
    message: None
    jobid: 3
Error in rule enhance:
    message: SLURM-job '9' failed, SLURM status is: 'OUT_OF_MEMORY'. \
Reason: Unknown.For further error details see the cluster/cloud log and the log files.
    jobid: 2
Error in rule enhance:
    message: SLURM sbatch failed. The error message was 'invalid partition'.
    sbatch call:
        sbatch --partition none
    jobid: 14
[Sun Nov 29 21:00:00 2026]
    message: Error in group evaluation
    log: {log} (check log file(s) for error details)
    jobs:
        rule evaluate_entry:
            jobid: 5
            output: results/a_evaluation.json
            log: results/work/a/evaluate.log (check log file(s) for error details)
        rule evaluation_page:
            jobid: 6
            output: results/a_evaluation.html
    [Sun Nov 29 21:00:00 2026]
    Error in rule evaluate_entry:
        message: None
        jobid: 5
Cleaning up SLURM log files older than 10 day(s).
"""


def failure(entry: str, rule: str = "enhance", reason: str = "bad map") -> Failure:
    return Failure(entry, rule, reason, 1, "evaluate_entry", f"results/work/{entry}/{rule}.log")


def test_the_scheduler_is_heard_last(tmp_path: Path) -> None:
    log = tmp_path / "11.log"
    log.write_text("slurmstepd: error: *** STEP 11.0 CANCELLED DUE TO TIME LIMIT ***\n")
    said = scheduler_messages(SNAKEMAKE_LOG.format(log=log))
    assert set(said) == {2, 5, 6, 14}
    assert said[5] == said[6] == "*** STEP 11.0 CANCELLED DUE TO TIME LIMIT ***"  # a group: one job
    log.write_text("nothing\n")
    assert scheduler_messages(SNAKEMAKE_LOG.format(log=log))[5] == ""
    assert said[2] == "SLURM-job '9' failed, SLURM status is: 'OUT_OF_MEMORY'"
    assert said[14] == "SLURM sbatch failed. The error message was 'invalid partition'"


@pytest.mark.parametrize(
    ("log", "said", "reason"),
    [
        ("reads\nerror: map a.mrc is empty\n", "", "map a.mrc is empty"),
        ("error: map a.mrc is empty\n", "SLURM status is: 'FAILED'", "map a.mrc is empty"),
        ("x\nTraceback (most recent call last):\n  a\nValueError: 3\n", "", "ValueError: 3"),
        (
            "needs about 3 GB\n",
            "SLURM status is: 'OUT_OF_MEMORY'",
            "SLURM status is: 'OUT_OF_MEMORY'; "
            "ask for more in the profile: set-resources, enhance, mem_mb",
        ),
        ("needs about 3 GB\n", "", UNSAID),
        ("needs about 3 GB\n", "status is: 'FAILED'", f"{UNSAID} status is: 'FAILED'"),
        (None, "sbatch failed", "sbatch failed"),
    ],
    ids=["error", "cluster", "traceback", "memory", "killed", "killed there", "not begun"],
)
def test_a_reason_is_the_best_that_is_known(
    tmp_path: Path, log: str | None, said: str, reason: str
) -> None:
    path = tmp_path / "enhance.log"
    if log is not None:
        path.write_text(log)
    assert reason_of(path, "enhance", said, since=0) == reason


def test_the_log_of_an_earlier_run_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "enhance.log"
    path.write_text("error: mended since\n")
    os.utime(path, (time.time() - 3600,) * 2)
    assert reason_of(path, "enhance", "sbatch failed", since=time.time() - 60) == "sbatch failed"


def test_rows_stay_until_their_job_has_run_again(tmp_path: Path) -> None:
    table = tmp_path / "results" / "failures.tsv"
    a, b, c = (failure(name) for name in "abc")
    update_table(table, [a, b], {a.log, b.log})
    update_table(table, [c], {c.log, a.log})
    assert [line.split("\t")[0] for line in table.read_text().splitlines()] == ["id", "b", "c"]
    update_table(table, [], {b.log, c.log})
    assert not table.exists()


def test_a_training_that_stopped_is_not_its_entries(tmp_path: Path) -> None:
    """Which are prepared."""
    entries, others = {"a": True, "b": True}, ["train_network", "loss_figure"]
    (line,) = summary([], entries, others, tmp_path)
    assert line.startswith("cryoready: train_network, loss_figure were not finished; the same")
    failed = Failure("", "train_network", "loss is nan", 1, "loss_figure", "train.log")
    row, line = summary([failed], entries, others, tmp_path)
    assert row == "  train_network: loss is nan"
    assert line.startswith(f"cryoready: train_network, loss_figure were not finished; {tmp_path}")
    row, _ = summary([failed], entries, others, tmp_path, unseen={"train.log"})
    assert row == "cryoready: error: train_network: loss is nan"
    assert not list(summary([], {}, [], tmp_path))
    (line,) = summary([], {"c": False}, [], tmp_path)
    assert line.startswith("cryoready: 1 of 1 entries were not finished; the same command")
    (line,) = summary([], entries | {"c": False}, ["evaluation_summary"], tmp_path)
    assert "2 entries are done, 1 were not finished, evaluation_summary was not" in line


def test_many_failures_are_counted(tmp_path: Path) -> None:
    failures = [failure(f"m{k:02}", reason="r" * 300) for k in range(SHOWN + 5)]
    entries = {f"m{k:02}": False for k in range(SHOWN + 8)} | {"good": True}
    *rows, more, last = summary(failures, entries, [], tmp_path)
    assert len(rows) == SHOWN
    assert all(row.endswith("…") for row in rows)
    assert more == "  and 5 more"
    assert "25 of 29 entries failed, 1 are done, 3 were not finished" in last
