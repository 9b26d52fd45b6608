"""A training outlives its jobs: signals, nodes that die, jobs that matter more, and time limits."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from checkout import Checkout, kill
from cryoready.network.checkpoint import load_training_state
from on_slurm import asking, begin, until
from slurm_jobs import Job, records

pytestmark = [pytest.mark.workflow, pytest.mark.usefixtures("slurm")]

HERE = Path(__file__).parent
PATIENCE = 240.0  # s, until a job has started and done some steps
TINY = {
    "entries": "config/small.tsv",
    "network": {"width": 4, "blocks": 1, "head_dim": 2, "skip": False},
}
TRAIN = {
    **{
        "epochs": 2,
        "boxes_per_epoch": 100,
        "crop_voxels": 24,
        "batch_size": 2,
        "learning_rate": 2e-3,
    },
    **{"validate_every": 0, "checkpoint_minutes": 0},
}
ONE_THREAD = ("--set-threads", "train_network=1")  # else the bits depend on the node


@dataclass(frozen=True)
class Training:
    """One under way on Slurm."""

    checkout: Checkout
    name: str
    process: subprocess.Popen[str]
    run: str  # as Slurm's jobs are called

    @property
    def steps(self) -> int:
        """Done and saved."""
        for path in (self.checkout / "results/training/state").glob("*/state.pt"):
            progress = load_training_state(path)["progress"]
            return progress["epoch"] * TRAIN["boxes_per_epoch"] // 2 + progress["batch"]
        return 0

    @property
    def jobs(self) -> list[Job]:
        """Of the training itself, each turn of it (Slurm tells the rule of a job when it ends)."""
        return [job for job in records(self.run) if job.gpus]

    def wait_for(self, true: Callable[[], bool]) -> None:
        """Until it is true of the training, which must not fail meanwhile."""

        def going() -> bool:
            assert "FAILED" not in [job.state for job in self.jobs]
            return true()

        try:
            until(going, PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.jobs}\n{self.log}") from error

    @property
    def log(self) -> str:
        """What Slurm's last job of it wrote, and what the training says."""
        paths = [*self.checkout.folder.glob(".snakemake/slurm_logs/rule_train_network/**/*.log")]
        paths = sorted(paths, key=lambda path: path.stat().st_mtime)[-1:]
        paths += (self.checkout / "results/training").glob(f"{self.name}/train.log")
        return "\n".join(path.read_text() for path in paths)

    def end(self) -> None:
        """Whatever has become of it."""
        kill(self.process)
        subprocess.run(["scancel", f"--name={self.run}"], check=True)

    def after_some_steps(self) -> Job:
        """The turn under way, when it has saved a few steps of its own."""
        turn, before = max(1, len(self.jobs)), self.steps

        def going() -> bool:
            assert self.process.poll() is None, self.process.communicate()[1]
            return len(self.jobs) >= turn and self.steps >= before + 3

        self.wait_for(going)
        return self.jobs[-1]


def train(checkout: Checkout, name: str, *arguments: str, **settings: object) -> Training:
    """``snakemake train`` on Slurm, under way; a run called ``name``, the only one with a state."""
    shutil.rmtree(checkout / "results/training/state", ignore_errors=True)
    file = checkout.settings(name, **TINY, train={**TRAIN, "run": name, **settings})
    return Training(checkout, name, *begin(checkout, "train", f"--configfile={file}", *arguments))


def send_signal(training: Training, job: Job) -> None:
    """As a scheduler does that is going to take the node."""
    subprocess.run(["scancel", "--signal=TERM", str(job.id)], check=True)


def cut_power(training: Training, job: Job) -> None:
    """Of a node: its daemon and all that runs there."""
    daemon = Path("/var/lib/cryoready-slurm/run") / f"{job.node}.pid"
    doomed = [int(daemon.read_text())]
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if f"slurmstepd: [{job.id}." in line:
            doomed += [process.pid, *(child.pid for child in process.children(recursive=True))]
    for pid in doomed:
        with suppress(psutil.NoSuchProcess):  # one that ended meanwhile
            psutil.Process(pid).kill()


def preempt(training: Training, job: Job) -> None:
    """A job that matters more wants the whole node."""
    call = ["sbatch", "--partition=urgent", "--exclusive", f"--nodelist={job.node}"]
    subprocess.run([*call, "--account=test", "--wrap=sleep 1", "--output=/dev/null"], check=True)


def weights(checkout: Checkout, run: str) -> bytes:
    return (checkout / f"results/training/{run}/weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(checkout: Checkout) -> bytes:
    """Weights of an uninterrupted run on this machine."""
    settings = checkout.settings("whole", **TINY, train={**TRAIN, "run": "whole"})
    checkout.made("train", "--configfile", settings)
    return weights(checkout, "whole")


@pytest.fixture
def restored() -> None:
    """The node that died is there again for the next test."""
    yield
    subprocess.run([HERE / "slurm_up.sh"], check=True)


def test_a_training_goes_on_in_another_job(
    checkout: Checkout, whole: bytes, restored: None
) -> None:
    """As often as it takes: the steps in the same order, the weights the same bits."""
    training = train(checkout, "killed", *ONE_THREAD, workers=1)
    faults: list[Callable[[Training, Job], None]] = [send_signal, preempt, cut_power]
    try:
        for fault in faults:
            before, turns = training.after_some_steps(), len(training.jobs)
            fault(training, before)
            training.wait_for(lambda turns=turns: len(training.jobs) > turns)
        training.wait_for(lambda: training.jobs[-1].state == "COMPLETED")
    finally:
        training.end()  # which looks at its jobs more and more seldom
    assert len({job.id for job in training.jobs}) == 1
    assert training.jobs[-1].node != training.jobs[-2].node
    log = (checkout / "results/training/killed/train.log").read_text()
    assert "goes on from" in log
    assert weights(checkout, "killed") == whole


def test_the_time_limit_is_no_end_but_ctrl_c_is(checkout: Checkout, whole: bytes) -> None:
    """A minute is the shortest limit that Slurm knows."""
    short = asking("train_network", runtime=1)
    training = train(checkout, "long", *short, epochs=1000)
    try:
        training.after_some_steps()
        training.wait_for(lambda: len(training.jobs) >= 2)
        training.after_some_steps()
        os.killpg(training.process.pid, signal.SIGINT)
        training.process.communicate(timeout=PATIENCE)
    finally:
        training.end()
    until(lambda: training.jobs[-1].state == "CANCELLED", PATIENCE)
    assert {job.state for job in training.jobs[:-1]} == {"REQUEUED"}
    assert all(job.seconds < 60 for job in training.jobs[:-1])  # in time, not told by Slurm
    assert re.search("goes on from", (checkout / "results/training/long/train.log").read_text())
    assert training.steps > 0


def test_a_real_error_is_not_tried_again(checkout: Checkout, whole: bytes) -> None:
    training = train(checkout, "wild", learning_rate=1e30, clip=0)
    try:
        _, said = training.process.communicate(timeout=PATIENCE)
    finally:
        training.end()
    assert training.process.returncode != 0
    assert said.count("cryoready: error: train_network: the training loss is nan") == 1, said
    assert [job.state for job in training.jobs] == ["FAILED"]


def test_two_nodes_train_one_network(checkout: Checkout, whole: bytes) -> None:
    """A GPU of each (without CUDA the processes meet by gloo); told to stop, they go on later."""
    two = asking("train_network", gpu=2)
    training = train(checkout, "two", *two, nodes=2, devices=1, epochs=1000, boxes_per_epoch=8)
    try:
        send_signal(training, training.after_some_steps())
        training.wait_for(lambda: len(training.jobs) >= 2)
        job = training.after_some_steps()
    finally:
        training.end()
    assert (training.jobs[0].state, job.node, job.gpus) == ("REQUEUED", "g[1-2]", 2)
    log = (checkout / "results/training/two/train.log").read_text()
    assert "on 2 × cpu" in log
    assert "goes on from" in log
