"""What identifies a run, and who may work on it."""

import json
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.training.loop import Epoch, Plan
from cryoready.training.run import describe_epoch, set_up, state_folder

SETTINGS = {
    **vars(Plan()),
    "seed": 1,
    "run": "test",
    "init": "none",
    "crop_voxels": 24,
}
NETWORK = {"width": 4, "blocks": 1, "head_dim": 2, "window": 3, "norm": "voxel"}


def make(tmp_path, **changes):
    """A run on one made-up entry; ``changes`` go to `set_up`."""
    np.save(tmp_path / "boxes.npy", np.zeros((2, 2, 24, 24, 24), dtype=np.float16))
    card = tmp_path / "pair.json"
    card.write_text(json.dumps({"id": "a", "boxes_sha256": changes.pop("boxes_sha256", "0")}))
    boxes = [str(tmp_path / "boxes.npy")]
    settings = SETTINGS | changes.pop("settings", {})
    arguments = {
        "training": boxes,
        "validation": boxes,
        "pair_cards": [str(card)],
        "initial_weights": None,
        "architecture": NETWORK,
        "settings": settings,
        "definition": {"train": settings},
        "threads": 1,
    }
    return set_up(**arguments | changes)


def test_the_key_follows_data_settings_and_code(tmp_path):
    key = make(tmp_path).key("code")
    assert key == make(tmp_path).key("code")
    others = [
        make(tmp_path).key("other code"),
        make(tmp_path, settings={"seed": 2}).key("code"),
        make(tmp_path, settings={"beta": 0.5}).key("code"),
        make(tmp_path, boxes_sha256="1").key("code"),
    ]
    assert len({key, *others}) == 5


def hold(root, ready, done):
    with state_folder(root, "key"):
        ready.set()
        done.wait()


def test_two_processes_cannot_train_the_same_run(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        busy = pytest.raises(CryoreadyError, match=rf"in use by .*process {other.pid}")
        with busy, state_folder(tmp_path, "key"):
            pass
    finally:
        done.set()
        other.join()


def test_a_killed_process_leaves_no_lock(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, done))
    other.start()
    assert ready.wait(60)
    other.kill()
    other.join()
    with state_folder(tmp_path, "key") as folder:
        assert folder.is_dir()
    assert not folder.exists()


def fail_half_way(root):
    with state_folder(root, "key") as folder:
        (folder / "state.pt").write_text("kept")
        raise RuntimeError


def test_the_state_survives_a_failure(tmp_path):
    with pytest.raises(RuntimeError):
        fail_half_way(tmp_path)
    assert (tmp_path / "key" / "state.pt").read_text() == "kept"


def test_without_entries_there_is_nothing_to_train(tmp_path):
    for split, role in (("train", "training"), ("val", "validation")):
        with pytest.raises(CryoreadyError, match=f"no entry with split '{split}'"):
            make(tmp_path, **{role: []})


def test_sizes_that_do_not_fit_are_explained(tmp_path):
    with pytest.raises(CryoreadyError, match="network: half of width"):
        make(tmp_path, architecture={**NETWORK, "width": 10, "head_dim": 3})
    with pytest.raises(CryoreadyError, match="crop_voxels = 25 must be a multiple of 24"):
        make(tmp_path, settings={"crop_voxels": 25})


def test_an_epoch_is_summed_up_with_the_time_left():
    row = Epoch(2, 0.5, 0.25, 1e-3, 120, 60.0)
    line = describe_epoch([replace(row, epoch=1), row], replace(Plan(), epochs=12))
    assert "epoch 2/12" in line
    assert "2.00 crops/s" in line
    assert "at most 10 min left" in line
