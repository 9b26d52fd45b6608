"""The workflow on a real Slurm, through the profile as it ships, and told by Slurm's own records.

The pretended GPUs compute nothing: what is tested is which jobs ask for them.
"""

import os
import signal
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import mrcfile
import numpy as np
import pytest

from checkout import ROOT, Checkout, copy_checkout, kill
from cryoready.core.cost import Size, megabytes, minutes, network_times, parameters_of
from emdb_server import EmdbServer
from local_archive import LOOSE, archive_settings, embedded, fill
from on_slurm import PROFILE, Ran, asking, begin, on_slurm, until
from slurm_jobs import records, table

pytestmark = [pytest.mark.workflow, pytest.mark.usefixtures("slurm")]

DEMO = [f"results/EMD-3488_{what}" for what in ("emready.mrc", "emready.png", "evaluation.html")]
DEMO_MAP = ROOT / "resources" / "EMD-3488" / "emd_3488.map.gz"
WEIGHTS = ROOT / "resources" / "weights" / "v1" / "weights.safetensors"
SMALL_MAP = ROOT / "resources" / "small" / "EMD-2566-9.map.gz"
ARCHIVED = ("EMD-2566", "EMD-5830", "EMD-6272")
EVALUATION = "evaluation_evaluate_entry_evaluation_page"  # a group of the profile: one job
PATIENCE = 120.0  # s, until jobs run
PROMPT = 15.0  # s, until cancelled ones are gone; Slurm waits 5 s before it kills


def run_easy(checkout: Checkout) -> Ran:
    """The demo and a small training."""
    short = "train={epochs: 2, boxes_per_epoch: 10, crop_voxels: 24, validate_every: 0}"
    return on_slurm(checkout, *DEMO, "train", "--configfile=config/small.yaml", "--config", short)


def run_hard(checkout: Checkout) -> Ran:
    """A map of zeros beside a good one, whose picture gets too little memory at first."""
    (checkout / "maps/good.map.gz").symlink_to(SMALL_MAP)
    mrcfile.write(checkout / "maps/zeros.mrc", np.zeros((32, 32, 32), np.float32), voxel_size=1.0)
    targets = ("results/zeros_emready.mrc", "results/good_emready.png")
    return on_slurm(checkout, *targets, *asking("before_after", mem_mb="200 * attempt**2"))


def run_dataset(checkout: Checkout) -> Ran:
    """The data set of an archive of three small entries."""
    with EmdbServer(checkout.folder.parent / "archive") as server:
        fill(server, [row for row in embedded() if row[0] in ARCHIVED])
        settings = {
            "archive": archive_settings(server),
            "dataset": {**LOOSE, "counts": {"train": 1, "val": 1, "test": 1}},
            "entries": checkout.sheet("nothing"),
        }
        return on_slurm(checkout, "dataset", "--configfile", checkout.settings("set", **settings))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Ran]:
    """All at the same time: each waits a lot between looks at its jobs."""
    makers = (run_easy, run_hard, run_dataset)
    checkouts = [copy_checkout(tmp_path_factory.mktemp(run.__name__)) for run in makers]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda run, on: run(on), makers, checkouts))


@pytest.fixture(scope="module")
def easy(runs: list[Ran]) -> Ran:
    return runs[0]


@pytest.fixture(scope="module")
def hard(runs: list[Ran]) -> Ran:
    return runs[1]


@pytest.fixture(scope="module")
def dataset(runs: list[Ran]) -> Ran:
    return runs[2]


def test_the_demo_and_a_training_are_made(easy: Ran) -> None:
    assert easy.finished.code == 0, easy.finished.err
    weights = "results/training/small/weights.safetensors"
    missing = [path for path in (*DEMO, weights) if not (easy.checkout / path).is_file()]
    assert not missing


def test_every_step_is_a_job_of_slurm(easy: Ran) -> None:
    """And none runs twice. What is a matter of seconds stays on the login node."""
    assert Counter(job.rule for job in easy.jobs) == {
        "prepare": 3,
        "enhance": 1,
        "before_after": 1,
        EVALUATION: 1,
        "train_network": 1,
    }
    assert {job.state for job in easy.jobs} == {"COMPLETED"}
    print(table(easy.jobs))


def test_only_what_uses_the_network_asks_for_a_gpu(easy: Ran) -> None:
    """And gets it on a node that has one."""
    assert {job.rule for job in easy.jobs if job.gpus} == {"enhance", "train_network"}
    assert {job.node[0] for job in easy.jobs if job.gpus} == {"g"}


def test_jobs_ask_for_what_profile_and_rules_say(easy: Ran) -> None:
    (enhance,), (training,) = easy.of("enhance"), easy.of("train_network")
    for job in easy.jobs:
        site = PROFILE["default-resources"] | PROFILE["set-resources"].get(job.rule, {})
        assert job.partition == site["slurm_partition"], job
        assert job.cpus == PROFILE["set-threads"].get(job.rule, 1), job
    size, parameters = Size.of(str(DEMO_MAP)), parameters_of(str(WEIGHTS))
    assert enhance.memory == megabytes("enhance", size, parameters=parameters)
    assert enhance.limit == minutes("enhance", size, times=network_times(parameters))
    assert training.limit == PROFILE["set-resources"]["train_network"]["runtime"]


def test_no_job_needs_more_than_it_asked_for(easy: Ran) -> None:
    """There is something left of the margin: Slurm itself would end a job that takes more."""
    scarce = [job for job in easy.jobs if not 0 < job.used < 0.9 * job.memory]
    late = [job for job in easy.jobs if not job.seconds < 0.9 * 60 * job.limit]
    assert not scarce + late


def test_a_bad_map_stops_no_other(hard: Ran) -> None:
    tries = 1 + PROFILE["retries"]
    assert [job.state for job in hard.of("enhance", "zeros")] == ["FAILED"] * tries
    assert [job.state for job in hard.of("enhance", "good")] == ["COMPLETED"]
    assert (hard.checkout / "results/good_emready.png").is_file()
    assert not (hard.checkout / "results/zeros_emready.mrc").exists()
    assert hard.finished.error.startswith("zeros  enhance: map maps/zeros.mrc has the value 0.0")


def test_a_job_over_its_memory_gets_more(hard: Ran) -> None:
    """Slurm kills it and Snakemake asks for the attempt's amount."""
    first, second = hard.of("before_after")
    assert (first.state, first.memory) == ("FAILED", 200)
    assert first.used > first.memory
    assert (second.state, second.memory) == ("COMPLETED", 800)


def test_jobs_of_a_data_set_are_known_when_it_is_chosen(dataset: Ran) -> None:
    """Then each pair is a job, which fetches its map and asks for what that takes."""
    assert dataset.finished.code == 0, dataset.finished.err
    rules = Counter(job.rule for job in dataset.jobs)
    assert rules == {"select": 1, "prepare": len(ARCHIVED), "dataset": 1}
    assert {job.state for job in dataset.jobs} == {"COMPLETED"}
    for emdb, _, map_file, _, _ in embedded():
        asked = megabytes("prepare", Size.of(str(map_file)))
        assert [job.memory for job in dataset.of("prepare", emdb)] == [asked] * (emdb in ARCHIVED)
        assert (dataset.checkout / f"results/work/{emdb}/boxes.npy").is_file() == (emdb in ARCHIVED)


def in_queue(run: str) -> Counter[str]:
    """States of the jobs of a run that Slurm has not done with."""
    call = ["squeue", "--noheader", "--name", run, "--format=%T"]
    return Counter(subprocess.check_output(call, text=True).split())


def test_ctrl_c_cancels_all_jobs(hard: Ran) -> None:
    """The running ones, and the one that waits until two of the four GPUs are free."""
    checkout = hard.checkout
    for name in "abc":
        (checkout / f"maps/{name}.map.gz").symlink_to(SMALL_MAP)
    before = checkout.files()
    targets = [f"results/{name}_emready.mrc" for name in "abc"]
    process, run = begin(checkout, *targets, *asking("enhance", gpu=2))
    try:
        until(lambda: in_queue(run) == {"RUNNING": 2, "PENDING": 1}, PATIENCE)
        until(lambda: any(checkout.folder.glob("results/work/[abc]/enhance.log")), PATIENCE)
        os.killpg(process.pid, signal.SIGINT)
        until(lambda: not in_queue(run), PROMPT)
        process.communicate(timeout=PATIENCE)
    finally:
        kill(process)
    assert process.returncode != 0
    assert [job.state for job in records(run)] == ["CANCELLED"] * 3
    assert checkout.files() == before
