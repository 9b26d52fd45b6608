"""Who may work on a run, and how long its state is kept."""

import errno
import multiprocessing
import os
from threading import Timer

import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.training.states import HOLDER, mark_ended, remove_ended, state_folder

CONTEXT = multiprocessing.get_context("spawn")


def hold(root, ready, done):
    with state_folder(root, "key"):
        ready.set()
        done.wait()


def test_two_processes_cannot_train_the_same_run(tmp_path):
    ready, done = CONTEXT.Event(), CONTEXT.Event()
    other = CONTEXT.Process(target=hold, args=(tmp_path, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        busy = pytest.raises(CryoreadyError, match=rf"in use by .*process {other.pid}")
        with busy, state_folder(tmp_path, "key", patience=0.1):
            pass
    finally:
        done.set()
        other.join()


def hold_elsewhere(root, ready, done):
    """As a process of another computer."""
    with state_folder(root, "key") as folder:
        (folder / HOLDER).write_text("elsewhere, process 1")
        ready.set()
        done.wait()


def test_the_lock_of_another_computer_is_waited_for(tmp_path):
    ready, done = CONTEXT.Event(), CONTEXT.Event()
    lines = []
    other = CONTEXT.Process(target=hold_elsewhere, args=(tmp_path, ready, done))
    other.start()
    assert ready.wait(60)
    busy = pytest.raises(CryoreadyError, match="in use by elsewhere, process 1: this very run")
    with busy, state_folder(tmp_path, "key", patience=0.0):
        pass

    def report(line):
        lines.append(line)
        Timer(0.5, done.set).start()

    with state_folder(tmp_path, "key", report, patience=60.0) as folder:
        assert (folder / HOLDER).read_text().endswith(f"process {os.getpid()}")
        assert set(tmp_path.iterdir()) == {folder, tmp_path / "key.lock"}
    other.join()
    assert list(tmp_path.iterdir()) == [folder]
    assert len(lines) == 1
    assert "is held by elsewhere, process 1: waits up to 60 s, should it be dead" in lines[0]


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch):
    """Lustre, mounted without them, answers so."""

    def flock(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    lines = []
    with state_folder(tmp_path, "key", lines.append) as folder:
        assert folder.is_dir()
    assert len(lines) == 1
    assert "cannot be locked here" in lines[0]


def test_a_killed_process_leaves_no_lock(tmp_path):
    ready, done = CONTEXT.Event(), CONTEXT.Event()
    other = CONTEXT.Process(target=hold, args=(tmp_path, ready, done))
    other.start()
    assert ready.wait(60)
    other.kill()
    other.join()
    with state_folder(tmp_path, "key") as folder:
        assert folder.is_dir()


def fail_half_way(root):
    with state_folder(root, "key") as folder:
        (folder / "state.pt").write_text("kept")
        raise RuntimeError


def test_the_state_survives_a_failure(tmp_path):
    with pytest.raises(RuntimeError):
        fail_half_way(tmp_path)
    remove_ended(tmp_path, {"weights.safetensors"})
    assert (tmp_path / "key" / "state.pt").read_text() == "kept"
    assert not list(tmp_path.glob("*.lock"))


def test_a_state_goes_when_the_weights_it_led_to_are_sure(tmp_path):
    """Not before: Snakemake deletes those of a job that it takes for failed, or cut short."""
    weights = tmp_path / "weights.safetensors"
    for key in ("under way", "ended"):
        with state_folder(tmp_path / "states", key) as folder:
            (folder / "state.pt").write_text(key)
    mark_ended(folder, weights)
    weights.write_text("weights")
    remove_ended(tmp_path / "states", {"others"})
    assert (folder / "state.pt").read_text() == "ended"
    remove_ended(tmp_path / "states", {"others", str(weights)})
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["under way"]
