"""A GPU belongs to one job at a time, of whatever Snakemake; processes are real, GPUs are names."""

import multiprocessing
import time
from contextlib import ExitStack

import pytest
import torch

from cryoready.core.errors import CryoreadyError
from cryoready.enhance.gpus import claimed, claimed_devices

GPUS = ["GPU-a", "GPU-b"]
CONTEXT = multiprocessing.get_context("spawn")


def job(folder, number, seconds, waits=None):
    """Leaves a line when it has its GPUs, and when it is about to let them go."""
    report = print if waits is None else lambda line: waits.set()
    with claimed(GPUS, number, report, folder) as mine, (folder / "events").open("a") as log:
        print("takes", *mine, file=log, flush=True)
        time.sleep(seconds)
        print("frees", *mine, file=log, flush=True)


def hold(folder, ready):
    with claimed(GPUS, 1, print, folder):
        ready.set()
        time.sleep(60)


def test_six_jobs_share_two_gpus_and_both_are_used(tmp_path):
    jobs = [CONTEXT.Process(target=job, args=(tmp_path, n, 0.2)) for n in (1, 2, 1, 1, 2, 1)]
    for process in jobs:
        process.start()
    for process in jobs:
        process.join()
    events = (tmp_path / "events").read_text().splitlines()
    assert len(events) == 2 * len(jobs)
    busy, used = set(), set()
    for event, *mine in map(str.split, events):
        if event == "takes":
            assert not busy & {*mine}
            busy |= {*mine}
        else:
            busy -= {*mine}
        used |= busy
    assert used == {"0", "1"}


def test_a_killed_job_leaves_its_gpu(tmp_path):
    ready = CONTEXT.Event()
    process = CONTEXT.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    with claimed(GPUS, 1, print, tmp_path) as mine:
        assert mine == [1]
    process.kill()
    process.join()
    with claimed(GPUS, 2, print, tmp_path) as mine:
        assert mine == [0, 1]


def impatient(lines):
    """A report that ends the waiting it is told of."""

    def report(line):
        lines.append(line)
        raise TimeoutError

    return report


def test_who_waits_says_so_and_holds_nothing(tmp_path):
    """One GPU is free, two are wanted: a third job that wants one must get it."""
    ready, waits, lines = CONTEXT.Event(), CONTEXT.Event(), []
    holder = CONTEXT.Process(target=hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(60)
    both = CONTEXT.Process(target=job, args=(tmp_path, 2, 0.0, waits))
    both.start()
    assert waits.wait(60)
    with claimed(GPUS, 1, lines.append, tmp_path) as mine:
        assert mine == [1]
        with ExitStack() as stack, pytest.raises(TimeoutError):
            stack.enter_context(claimed(GPUS, 1, impatient(lines), tmp_path))
    assert lines == ["waits for 1 of 2 GPUs: other jobs use them"]
    holder.kill()
    both.join()
    holder.join()
    assert (tmp_path / "events").read_text().splitlines() == ["takes 0 1", "frees 0 1"]


def test_more_than_there_are_is_one_line(tmp_path):
    with (
        pytest.raises(CryoreadyError, match="3 GPUs are wanted, but there are 2 here"),
        claimed(GPUS, 3, print, tmp_path),
    ):
        pass


def test_without_a_gpu_it_is_the_cpu():
    with ExitStack() as stack:
        assert stack.enter_context(claimed_devices("cpu", 1, print)) == [torch.device("cpu")]
