"""Weights come back as they were saved, and whatever else is offered is refused in one line."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cryoready.core.errors import CryoreadyError
from cryoready.density.normalise import CONVENTION
from cryoready.network.checkpoint import (
    Card,
    card_path,
    load_network,
    load_training_state,
    save_training_state,
    save_weights,
)
from cryoready.network.scunet import Architecture, SCUNet

SMALL = Architecture(width=8, norm="voxel", scale=100.0)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SCUNet(SMALL)


@pytest.fixture
def card():
    return Card("small", "1.0", SMALL, 1.0, training={"loss": "smooth-L1", "steps": 300})


@pytest.fixture
def saved(tmp_path, network, card):
    path = tmp_path / "small.safetensors"
    save_weights(path, network, card)
    return path


def refusal(path: Path, *, grid: float | None = None) -> str:
    """The message, which is one line and says where."""
    with pytest.raises(CryoreadyError) as caught:
        load_network(path, grid=grid)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.parent) in message
    return message


def edit_card(path: Path, **changes: object) -> None:
    card = json.loads(card_path(path).read_text())
    card_path(path).write_text(json.dumps({**card, **changes}))


# -- round trips ---------------------------------------------------------------------------------


def test_weights_and_card_come_back(saved, network, card):
    loaded, found = load_network(saved, grid=1.0)
    assert not loaded.training
    assert loaded.architecture == SMALL
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert found == Card("small", "1.0", SMALL, 1.0, training=card.training, sha256=digest)
    assert {path.name for path in saved.parent.iterdir()} == {"small.safetensors", "small.json"}


def test_half_precision_weights_come_back_as_float32(tmp_path, saved, network, card):
    path = tmp_path / "half.safetensors"
    save_weights(path, network, card, half=True)
    assert path.stat().st_size < 0.7 * saved.stat().st_size
    loaded, _ = load_network(path)
    for name, tensor in network.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == torch.float32
        # half a unit in the last of 11 bits, or of the smallest number 2^-24
        torch.testing.assert_close(found, tensor, rtol=2**-11, atol=2**-25)


def test_the_card_of_a_training_run_is_card_json(tmp_path, network, card):
    save_weights(tmp_path / "weights.safetensors", network, card)
    assert {path.name for path in tmp_path.iterdir()} == {"weights.safetensors", "card.json"}


def test_published_weights_give_the_published_output(
    tmp_path, published_weights, golden_input, golden
):
    path = tmp_path / "emready.pth"
    torch.save(published_weights, path)
    network, card = load_network(path, grid=1.0)
    assert card.architecture == Architecture()
    assert (card.grid, card.intensity) == (1.0, CONVENTION)
    with torch.no_grad():
        output = network(golden_input)[0, 0].double()
    reference = torch.from_numpy(golden["output"]).double()
    assert (output - reference).norm() / reference.norm() <= 1e-6


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 1e-4}},
        lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
        lambda state: {name: tensor.double() for name, tensor in state.items()},
    ],
)
def test_published_weights_are_found_in_their_wrappers(tmp_path, published_weights, wrap):
    torch.save(wrap(published_weights), tmp_path / "emready.pt")
    network, card = load_network(tmp_path / "emready.pt", grid=0.5)
    assert card.grid == 0.5
    found = network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in published_weights.items())


def test_published_weights_may_be_safetensors_without_a_card(tmp_path, published_weights):
    path = tmp_path / "emready.safetensors"
    save_file(published_weights, path)
    assert load_network(path, grid=1.0)[1].architecture == Architecture()
    assert "weights_grid to 1 or 0.5" in refusal(path)


def test_training_state_comes_back(tmp_path, network):
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-4)
    network(torch.rand(1, 1, 24, 24, 24)).sum().backward()
    optimiser.step()
    state = {"step": 7, "network": network.state_dict(), "optimiser": optimiser.state_dict()}
    save_training_state(tmp_path / "last.pt", state)
    loaded = load_training_state(tmp_path / "last.pt")
    assert loaded["step"] == 7
    again = torch.optim.AdamW(network.parameters())
    again.load_state_dict(loaded["optimiser"])
    assert again.state_dict()["param_groups"][0]["lr"] == 3e-4
    for number, moments in optimiser.state_dict()["state"].items():
        assert torch.equal(again.state_dict()["state"][number]["exp_avg"], moments["exp_avg"])
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [0.5, 1.01])
def test_another_grid_is_refused(saved, grid):
    assert f"made for a grid of 1 Å, but {grid} Å" in refusal(saved, grid=grid)


@pytest.mark.parametrize("grid", [None, 2.0])
def test_bare_weights_need_one_of_the_two_grids(tmp_path, published_weights, grid):
    torch.save(published_weights, tmp_path / "emready.pth")
    assert "weights_grid to 1 or 0.5" in refusal(tmp_path / "emready.pth", grid=grid)


def test_weights_of_another_file_are_refused(saved, network, card):
    other = SCUNet(SMALL)
    save_weights(saved.with_name("other.safetensors"), other, card)
    saved.with_name("other.safetensors").replace(saved)
    assert "checksum" in refusal(saved)


def test_a_missing_card_is_refused(saved):
    card_path(saved).unlink()
    assert "small.json is missing" in refusal(saved)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": {"width": 9}}, "width 9"),
        ({"architecture": {"depth": 9}}, "depth"),
        ({"architecture": {"norm": ["frn"]}}, "norm"),
        ({"architecture": None}, "mapping"),
        ({"grid": "1.0"}, "grid"),
        ({"grid": -1.0}, "grid"),
        ({"licence": "none"}, "licence"),
        ({"sha256": 5}, "sha256"),
    ],
)
def test_a_broken_card_is_refused(saved, changes, reason):
    edit_card(saved, **changes)
    assert reason in refusal(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "<html>", '{"name": "x"}', "\xff"])
def test_a_card_that_is_none_is_refused(saved, text):
    card_path(saved).write_bytes(text.encode("latin-1"))
    assert "small.json" in refusal(saved)


def test_the_first_tensor_that_does_not_fit_is_named_with_both_shapes(saved):
    edit_card(saved, architecture={"width": 16, "norm": "voxel"})
    message = refusal(saved)
    assert "m_body.0.conv1_1.bias is (64,) in the file, (128,) in the network" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("m_tail.0.weight"), "m_tail.0.weight is no such tensor"),
        (lambda state: state.update(extra=torch.zeros(2)), "extra is (2,)"),
        (lambda state: state["m_tail.0.weight"].fill_(float("nan")), "not finite"),
        (lambda state: state.clear(), "no state dict"),
    ],
)
def test_other_networks_and_broken_numbers_are_refused(tmp_path, published_weights, change, reason):
    state = {name: tensor.clone() for name, tensor in published_weights.items()}
    change(state)
    torch.save(state, tmp_path / "other.pth")
    assert reason in refusal(tmp_path / "other.pth", grid=1.0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS"),
        (b"not weights at all", "damaged"),
        (b"PK\x03\x04" + bytes(1000), "damaged"),
        (bytes(range(256)) * 40, "damaged"),
    ],
)
def test_files_that_are_no_weights_are_refused(tmp_path, suffix, content, reason):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    assert reason in refusal(path, grid=1.0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [7, 5_000, 60_000, -1])
def test_truncated_weights_are_refused(tmp_path, network, suffix, kept):
    path = tmp_path / f"x{suffix}"
    state = network.state_dict()
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    path.write_bytes(path.read_bytes()[:kept])
    assert "damaged" in refusal(path, grid=1.0)


def test_missing_files_and_unknown_kinds_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.safetensors")
    assert "cannot be read" in refusal(tmp_path)
    (tmp_path / "x.onnx").write_bytes(b"x")
    assert "'.onnx'" in refusal(tmp_path / "x.onnx")


class Trap:
    """Unpickling it would create a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_code_in_a_pickle_is_not_run(tmp_path, write):
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(Trap(trace)))  # the trap works
    trace.unlink()
    path = tmp_path / "trap.pth"
    write({"m_tail.0.weight": Trap(trace)}, path)
    assert "never run" in refusal(path, grid=1.0)
    with pytest.raises(CryoreadyError, match="never run"):
        load_training_state(path)
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 10, 3_000, -1])
def test_a_training_state_that_was_cut_off_is_refused(tmp_path, network, kept):
    path = tmp_path / "last.pt"
    save_training_state(path, {"network": network.state_dict()})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CryoreadyError, match=r"last\.pt: (is empty|damaged)") as caught:
        load_training_state(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_training_state_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CryoreadyError, match="holds a list"):
        load_training_state(tmp_path / "list.pt")


# -- nothing half-written ------------------------------------------------------------------------


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_diverged_network_does_not_replace_a_good_one(saved, network, card):
    before = files(saved.parent)
    network.m_tail[0].weight.data[0, 0] = float("inf")
    with pytest.raises(CryoreadyError, match=r"m_tail\.0\.weight .* not finite") as caught:
        save_weights(saved, network, card)
    assert "\n" not in str(caught.value)
    assert files(saved.parent) == before


def test_weights_too_large_for_half_precision_are_refused(saved, network, card):
    network.m_tail[0].weight.data[0, 0] = 1e5
    with pytest.raises(CryoreadyError, match="not finite"):
        save_weights(saved, network, card, half=True)


@pytest.mark.parametrize("value", [object(), float("nan")])
def test_a_card_that_is_not_json_leaves_the_old_files(saved, network, value):
    before = files(saved.parent)
    with pytest.raises((TypeError, ValueError)):
        save_weights(saved, network, Card("x", "2", SMALL, 1.0, training={"a": value}))
    assert files(saved.parent) == before


def test_a_full_disk_leaves_the_old_files(saved, network, card, monkeypatch):
    before = files(saved.parent)

    def write_half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space left"):
        save_weights(saved, SCUNet(SMALL), card)
    assert files(saved.parent) == before


def test_a_card_of_another_network_is_a_mistake(tmp_path, network):
    with pytest.raises(ValueError, match="card says"):
        save_weights(tmp_path / "x.safetensors", network, Card("x", "1", Architecture(), 1.0))
    assert not files(tmp_path)


def test_a_training_state_that_could_not_be_loaded_is_not_written(tmp_path):
    save_training_state(tmp_path / "last.pt", {"step": 1})
    with pytest.raises(CryoreadyError, match="more than tensors"):
        save_training_state(tmp_path / "last.pt", {"step": 2, "path": Path("x")})
    assert load_training_state(tmp_path / "last.pt") == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
