"""What identifies a run, and what it leaves behind."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import file_sha256
from cryoready.dataset.structures import ATOM, Structures
from cryoready.network.checkpoint import Card, load_network, save_weights
from cryoready.network.scunet import Architecture, SCUNet
from cryoready.training.plan import Epoch, Plan
from cryoready.training.run import Events, carry_out, describe_epoch, set_up
from cryoready.training.states import remove_ended
from cryoready.training.stop import Stop

SETTINGS = {
    **vars(Plan()),
    **{"seed": 1, "run": "test", "crop_voxels": 24, "real_share": 1.0, "boxes_per_epoch": None},
    "target": "uniform",
    "synthesis": "cpu",
}
NETWORK = {
    **{"width": 4, "blocks": 1, "head_dim": 2, "window": 3, "norm": "voxel"},
    **{"skip": False, "branches": "both"},
}
ROW = Epoch(1, 0.5, 0.25, None, 1e-3, 120, 60.0, 2.0, 1.5)


def request(tmp_path, **changes):
    """Arguments of `set_up` for one made-up entry."""
    np.save(tmp_path / "boxes.npy", np.zeros((2, 2, 24, 24, 24), dtype=np.float16))
    card = tmp_path / "pair.json"
    card.write_text(json.dumps({"id": "a", "boxes_sha256": changes.pop("boxes_sha256", "0")}))
    boxes = [str(tmp_path / "boxes.npy")]
    settings = SETTINGS | changes.pop("settings", {})
    arguments = {
        "training": boxes,
        "local_targets": [],
        "structures": [],
        "validation": boxes,
        "judged": [],
        "pair_cards": [str(card)],
        "initial_weights": None,
        "architecture": NETWORK,
        "settings": settings,
        "definition": {"train": settings},
    }
    return arguments | changes


def make(tmp_path, **changes):
    return set_up(**request(tmp_path, **changes))


@pytest.fixture
def structures(tmp_path):
    """One packed structure of one atom."""
    atoms = np.zeros(1, ATOM)
    table = pd.DataFrame(
        [("a", 0, 1, 3.0, "f00d")], columns=["id", "first", "atoms", "resolution", "sha256"]
    )
    files = tmp_path / "structures.npy", tmp_path / "structures.tsv"
    Structures(atoms, table).write(*files)
    return [str(path) for path in files]


def test_the_key_follows_data_settings_and_code(tmp_path):
    key = make(tmp_path).key("code")
    assert key == make(tmp_path).key("code")
    others = [
        make(tmp_path).key("other code"),
        make(tmp_path, settings={"seed": 2}).key("code"),
        make(tmp_path, settings={"beta": 0.5}).key("code"),
        make(tmp_path, boxes_sha256="1").key("code"),
        make(tmp_path, local_targets=[targets(tmp_path, 0.0)]).key("code"),
        make(tmp_path, local_targets=[targets(tmp_path, 0.5)]).key("code"),
    ]
    assert len({key, *others}) == 7


def targets(tmp_path, level):
    """Other targets of the two boxes."""
    path = tmp_path / "local_targets.npy"
    np.save(path, np.full((2, 24, 24, 24), level, np.float16))
    return str(path)


def test_the_card_names_the_structures_and_how_maps_are_judged(tmp_path, structures):
    judged = {"id": "v", "map": structures[0], "model": structures[1]}
    run = make(
        tmp_path,
        structures=structures,
        settings={"real_share": 0.5, "boxes_per_epoch": 4},
        judged=[judged | {"resolution": 3.8, "voxel_size": None}],
    )
    training = run.card(ROW).training
    assert training["structures"] == {"a": "f00d"}
    sums = {role: file_sha256(judged[role]) for role in ("map", "model")}
    assert training["judged"] == [{"id": "v", "resolution": 3.8, "voxel_size": None, **sums}]


def test_sizes_that_the_weights_to_start_from_overrule_are_told(tmp_path):
    scratch = make(tmp_path)
    save_weights(tmp_path / "x.safetensors", scratch.network, scratch.card(ROW))
    begun = {"initial_weights": str(tmp_path / "x.safetensors")}
    assert make(tmp_path, **begun).summary == scratch.summary
    other = make(tmp_path, architecture=NETWORK | {"width": 32, "norm": "frn"}, **begun)
    told = "the weights to start from have width 4 instead of 32, norm voxel instead of frn"
    assert other.summary == f"{scratch.summary}; {told}"


def test_an_epoch_has_as_many_crops_as_boxes_unless_told(tmp_path):
    assert make(tmp_path).plan.boxes_per_epoch == 2
    assert make(tmp_path, settings={"boxes_per_epoch": 7}).plan.boxes_per_epoch == 7


def test_synthetic_crops_come_from_the_structures(tmp_path, structures):
    changes = {"structures": structures, "settings": {"real_share": 0.5, "boxes_per_epoch": 4}}
    run = make(tmp_path, **changes)
    real, synthetic = run.training.sources
    assert (len(real), len(synthetic)) == (2, 1)
    assert "2 boxes and 1 structures to train" in run.summary
    assert make(tmp_path).training.sources[1] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": []}, "no entry with split 'train' and a map"),
        ({"validation": []}, "no entry with split 'val'"),
        ({"settings": {"real_share": 0.5}}, "no entry with split 'train' and 'simulated'"),
        ({"settings": {"validate_every": 5}}, "no entry with split 'val' has a map and a model"),
    ],
)
def test_without_entries_there_is_nothing_to_train(tmp_path, changes, message):
    with pytest.raises(CryoreadyError, match=message):
        make(tmp_path, **changes)


def test_synthetic_crops_have_no_end(tmp_path, structures):
    with pytest.raises(CryoreadyError, match=r"train.boxes_per_epoch must be given"):
        make(tmp_path, structures=structures, settings={"real_share": 0.5})


def test_sizes_that_do_not_fit_are_explained(tmp_path):
    with pytest.raises(CryoreadyError, match="network: half of width"):
        make(tmp_path, architecture={**NETWORK, "width": 10, "head_dim": 3})
    with pytest.raises(CryoreadyError, match="crop_voxels = 25 must be a multiple of 24"):
        make(tmp_path, settings={"crop_voxels": 25})


def test_a_run_killed_at_its_very_end_leaves_weights_cards_tables_and_events(tmp_path, monkeypatch):
    names = ("weights.safetensors", "last.safetensors", "history.tsv", "validation.tsv", "events")
    lines = []
    run = partial(
        carry_out,
        **request(tmp_path, settings={"epochs": 2, "batch_size": 2}),
        outputs={name.partition(".")[0]: str(tmp_path / name) for name in names},
        states=str(tmp_path / "states"),
        code="code",
        threads=torch.get_num_threads(),
        device=torch.device("cpu"),
        report=lines.append,
        stop=Stop(),
    )
    monkeypatch.setattr("cryoready.training.run.leave", None)
    with pytest.raises(TypeError):
        run()
    (so_far,) = (tmp_path / "states").glob("*/history.tsv")
    assert list(pd.read_csv(so_far, sep="\t")["epoch"]) == [1, 2]
    monkeypatch.undo()
    run()
    first = (tmp_path / "weights.safetensors").read_bytes()
    for name in ("weights.safetensors", "history.tsv"):
        (tmp_path / name).unlink()  # as Snakemake does with what a node that died has left
    run()
    assert (tmp_path / "weights.safetensors").read_bytes() == first
    history = pd.read_csv(tmp_path / "history.tsv", sep="\t")
    assert list(history["epoch"]) == [1, 2]
    assert list(pd.read_csv(tmp_path / "validation.tsv", sep="\t")) == ["epoch", "id"]
    _, best = load_network(tmp_path / "weights.safetensors", grid=1.0)
    _, last = load_network(tmp_path / "last.safetensors", grid=1.0)
    assert best.training["epoch"]["epoch"] == history["validation_loss"].idxmin() + 1
    assert last.training["epoch"]["epoch"] == 2
    assert last.training["entries"] == {"a": "0"}
    assert scalars(tmp_path / "events")["validation_loss"] == pytest.approx(
        dict(zip(history["epoch"], history["validation_loss"], strict=True))
    )
    remove_ended(tmp_path / "states", {str(tmp_path / "weights.safetensors")})
    assert not list((tmp_path / "states").iterdir())
    assert sum("epoch 2/2" in line for line in lines) == 1


def scalars(folder):
    """Name -> step -> value of TensorBoard's files: records of length, check, content, check."""
    found = {}
    for path in folder.iterdir():
        content, start = path.read_bytes(), 0
        while start < len(content):
            length = int.from_bytes(content[start : start + 8], "little")
            event = Event.FromString(content[start + 12 : start + 12 + length])
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
            start += length + 16
    return found


def test_events_of_a_killed_run_are_written_again(tmp_path):
    rows = [replace(ROW, epoch=k, train_loss=1 / 2**k) for k in (1, 2, 3)]
    killed = Events(tmp_path / "events")
    killed.write(rows[:1])
    resumed = Events(tmp_path / "events")
    resumed.write(rows[:2])
    resumed.close(rows)
    found = scalars(tmp_path / "events")
    assert found["train_loss"] == {1: 0.5, 2: 0.25, 3: 0.125}
    assert "score" not in found
    assert "epoch" not in found


def test_an_epoch_is_summed_up_with_the_time_left():
    rows = [ROW, replace(ROW, epoch=2, score=0.125)]
    line = describe_epoch(rows, replace(Plan(), epochs=12))
    assert "epoch 2/12" in line
    assert "score 0.1250" in line
    assert "2.00 crops/s" in line
    assert "at most 10 min left" in line
    assert "at most 3 min left" in describe_epoch(rows, replace(Plan(), epochs=12, minutes=5))


def test_a_fine_tuning_keeps_the_negative_density_of_its_start(tmp_path):
    start = SCUNet(Architecture(width=4, blocks=1, head_dim=2, scale=100.0, skip=True))
    weights = tmp_path / "start.safetensors"
    save_weights(weights, start, Card("start", "1", start.architecture, 1.0, negatives=0.5))
    assert make(tmp_path, initial_weights=str(weights)).card(ROW).negatives == 0.5
    assert make(tmp_path).card(ROW).negatives == 0.0


def test_an_entry_that_could_not_be_prepared_is_not_passed_over(tmp_path):
    arguments = request(tmp_path)
    card = {"id": "EMD-1234", "boxes_sha256": "0", "failed": "no such entry"}
    (tmp_path / "pair.json").write_text(json.dumps(card))
    with pytest.raises(CryoreadyError, match="EMD-1234 could not be prepared: no such entry"):
        set_up(**arguments)
