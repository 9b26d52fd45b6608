"""A run on several devices, started as the workflow starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from cryoready.core.errors import CryoreadyError
from cryoready.network.checkpoint import load_network, load_training_state
from cryoready.training.launch import _command, _run, _say, _visible, launch
from cryoready.training.plan import Plan
from cryoready.training.stop import Stopped

SRUN = """#!/bin/sh
# Two nodes that are both this machine.
while case "$1" in --*) true;; *) false;; esac; do shift; done
"$@" & "$@"
code=$?
wait $! || code=$?
exit $code
"""


def request(folder, **settings):
    """Two epochs of one step on random boxes."""
    boxes = np.random.default_rng(0).random((4, 2, 24, 24, 24)).astype(np.float16)
    np.save(folder / "boxes.npy", boxes)
    (folder / "pair.json").write_text(json.dumps({"id": "a", "boxes_sha256": "0"}))
    plan = {**vars(Plan(epochs=2, batch_size=2, boxes_per_epoch=2, learning_rate=1e-4))}
    names = ("weights.safetensors", "last.safetensors", "history.tsv", "validation.tsv", "events")
    return {
        **{"training": [str(folder / "boxes.npy")], "validation": [str(folder / "boxes.npy")]},
        **{"local_targets": [], "structures": [], "judged": []},
        **{"pair_cards": [str(folder / "pair.json")]},
        "initial_weights": None,
        "architecture": {
            **{"width": 4, "blocks": 1, "head_dim": 2, "window": 3, "norm": "voxel"},
            **{"skip": False, "branches": "both"},
        },
        "settings": {
            **plan,
            **{"seed": 1, "run": "test", "crop_voxels": 24, "real_share": 1.0},
            **{"devices": 1, "nodes": 1},
            **settings,
        },
        "definition": {},
        "outputs": {name.partition(".")[0]: str(folder / name) for name in names},
        "states": str(folder / "states"),
        "code": "code",
        "threads": 1,
    }


def start(wanted, report=print):
    launch(wanted, gpus=0, requeue=False, report=report)


@pytest.fixture
def two_nodes(tmp_path, monkeypatch):
    """An srun that pretends to have them."""
    srun = tmp_path / "srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


@pytest.mark.parametrize(("devices", "nodes"), [(2, 1), (1, 2)])
def test_two_devices_or_nodes_end_as_one(two_nodes, tmp_path, devices, nodes):
    histories, lines = [], []
    for name, settings in (("one", {}), ("two", {"devices": devices, "nodes": nodes})):
        folder = tmp_path / name
        folder.mkdir()
        start(request(folder, **settings), lines.append)
        histories.append(pd.read_csv(folder / "history.tsv", sep="\t"))
        load_network(folder / "weights.safetensors", grid=1.0)
        assert [path.name for path in (folder / "states").glob("*/*")].count("ended") == 1
        assert not list((folder / "states").glob("*.json"))
    losses = ["train_loss", "validation_loss"]
    pd.testing.assert_frame_equal(histories[0][losses], histories[1][losses], rtol=1e-4)
    assert sum("epoch 2/2" in line for line in lines) == 2
    assert any(line.endswith("on 2 × cpu") for line in lines)


def test_each_node_gets_its_threads():
    """srun gives a step one core, unless told otherwise."""
    assert "--cpus-per-task=16" in _command(2, 2, 16, "request.json")


def test_the_lines_of_a_process_are_handed_on():
    lines = []
    _run([sys.executable, "-c", "print('first'); print('second')"], {}, lines.append)
    assert lines == ["first", "second"]


def test_the_error_of_a_process_is_raised_as_one_line():
    program = "print('before'); print('error: boxes.npy: damaged'); raise SystemExit(1)"
    lines = []
    with pytest.raises(CryoreadyError, match=r"^boxes.npy: damaged$"):
        _run([sys.executable, "-c", program], {}, lines.append)
    assert lines == ["before"]


def test_a_process_that_dies_is_no_success():
    with pytest.raises(RuntimeError, match="exit status 3"):
        _run([sys.executable, "-c", "raise SystemExit(3)"], {}, print)


def test_a_process_that_came_to_its_end_was_not_stopped():
    """A signal that only its parent got; to begin anew would lose what it made."""
    program = f"import os, signal; os.kill({os.getpid()}, signal.SIGTERM)"
    _run([sys.executable, "-c", program], {}, print, forwards=False)


def test_a_run_that_is_done_cannot_be_stopped():
    """As torchrun sees it that is signalled while its processes end."""
    program = f"print('done'); import os, signal; os.kill({os.getpid()}, signal.SIGTERM); exit(1)"
    _run([sys.executable, "-u", "-c", program], {}, print)


def test_a_signal_before_there_is_a_process_reaches_it(monkeypatch):
    class Signalled(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            signal.raise_signal(signal.SIGTERM)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr("subprocess.Popen", Signalled)
    with pytest.raises(Stopped):
        _run([sys.executable, "-c", "import time; time.sleep(600)"], {}, print)


@pytest.mark.parametrize(("processes", "error"), [(1, Stopped), (2, RuntimeError)])
def test_a_run_stopped_if_all_its_processes_did(processes, error):
    """Where one dies torchrun stops the others: to queue that again would have no end."""
    with pytest.raises(error):
        _run([sys.executable, "-c", "print('stopped'); raise SystemExit(1)"], {}, print, processes)


def test_an_error_of_one_process_ends_all_with_one_line(tmp_path):
    """Those that wait for it, too."""
    wanted = request(tmp_path, devices=2, epochs=500)
    boxes = np.load(tmp_path / "boxes.npy")
    np.save(tmp_path / "good.npy", boxes)
    wanted["validation"] = [str(tmp_path / "good.npy")]
    boxes[0] = np.nan
    np.save(tmp_path / "boxes.npy", boxes)
    with pytest.raises(CryoreadyError, match=r"boxes.npy: box 0 has values that are not finite"):
        start(wanted)


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    """PyTorch believes that there are two."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda k: SimpleNamespace(uuid=k))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_more_devices_than_gpus_are_refused(tmp_path, two_gpus):
    with pytest.raises(CryoreadyError, match="4 GPUs are wanted, but there are 2 here"):
        start(request(tmp_path, devices=4))


@pytest.mark.parametrize(
    ("seen", "taken", "visible"), [(None, [1], "1"), ("4,7", [1], "7"), ("4,7", [0, 1], "4,7")]
)
def test_processes_see_the_gpus_of_their_job(monkeypatch, seen, taken, visible):
    """CUDA numbers anew what CUDA_VISIBLE_DEVICES leaves."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    devices = [torch.device("cuda", k) for k in taken]
    assert _visible(devices) == {"CUDA_VISIBLE_DEVICES": visible}
    assert _visible([torch.device("cpu")]) == {}


def told_to_stop(folder, lines):
    """A run without an end on two processes, told to stop when it has got going."""

    def report(line):
        lines.append(line)
        if "epoch 1/" in line:
            os.kill(os.getpid(), signal.SIGTERM)

    wanted = request(folder, devices=2, epochs=500, workers=1)
    with pytest.raises(Stopped):
        launch(wanted, gpus=0, requeue=False, report=report)


def steps(folder):
    """Epochs and batches done and saved."""
    (state,) = (folder / "states").glob("*/state.pt")
    progress = load_training_state(state)["progress"]
    return progress["epoch"], progress["batch"]


def signal_all(folder, after):
    """As Slurm does, which signals every process of a step; the parent here is of another step."""
    end = time.monotonic() + 60
    while steps(folder) != after and time.monotonic() < end:
        time.sleep(0.02)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.name() != "srun":
                process.send_signal(signal.SIGTERM)


def test_processes_signalled_while_the_first_validates_all_stop(two_nodes, tmp_path):
    """What one says while another leaves is lost, and the run would pass for one that failed."""
    wanted = request(tmp_path, nodes=2, epochs=500)
    np.save(tmp_path / "many.npy", np.zeros((500, 2, 24, 24, 24), np.float16))
    wanted["validation"] = [str(tmp_path / "many.npy")]  # takes seconds
    lines = []

    def report(line):
        lines.append(line)
        if "epoch 1/" in line:
            Thread(target=signal_all, args=(tmp_path, (1, 1))).start()

    with pytest.raises(Stopped):
        start(wanted, report)
    assert lines[-1].startswith("stopped; ")
    assert steps(tmp_path) == (1, 1)  # before the validation of the second


def test_lines_of_several_processes_do_not_mix(monkeypatch):
    """Python under torchrun has no buffer: each write goes out for itself."""
    written = []
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=written.append, flush=lambda: None))
    _say("stopped")
    assert written == ["stopped\n"]


def test_gpus_that_nodes_cannot_share_are_refused(tmp_path):
    with pytest.raises(CryoreadyError, match="of all nodes, is 1: make it a multiple"):
        launch(request(tmp_path, nodes=2), gpus=1, requeue=False, report=print)


def test_processes_that_are_told_to_stop_save_together(tmp_path):
    lines = []
    told_to_stop(tmp_path, lines)
    assert 1 <= steps(tmp_path)[0] < 500
    assert lines[-1].startswith("stopped; ")
    assert not list((tmp_path / "states").glob("*.json"))
