"""The loop on a tiny network: it learns, and an interruption leaves no trace."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cryoready.core.errors import CryoreadyError
from cryoready.network.scunet import Architecture, SCUNet
from cryoready.training.box_dataset import BoxDataset, BoxStack
from cryoready.training.loop import Plan, train

CPU = torch.device("cpu")
PLAN = Plan(epochs=3, batch_size=2, learning_rate=3e-3, checkpoint_minutes=0.0)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def stack(tmp_path):
    """Six pairs: noisy blurred blobs and their clean form."""
    rng = np.random.default_rng(0)
    boxes = np.zeros((6, 2, 26, 26, 26))
    for pair in boxes:
        for _ in range(12):
            z, y, x = rng.integers(4, 22, 3)
            pair[1, z, y, x] = 1
            pair[0, z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] += 0.3
        pair[0] += rng.normal(0, 0.05, pair[0].shape)
    np.save(tmp_path / "boxes.npy", boxes.astype(np.float16))
    return BoxStack.open(tmp_path / "boxes.npy")


def network():
    torch.manual_seed(3)
    return SCUNet(Architecture(width=4, blocks=1, head_dim=2, norm="voxel", scale=100.0))


def run(stack, state_file, plan=PLAN, model=None):
    model = model or network()
    data = BoxDataset([stack], 24, seed=1), BoxDataset([stack], 24, seed=None)
    history, _ = train(model, *data, plan, state_file=state_file, device=CPU)
    return model, history


class Killed(Exception):
    pass


class DyingNetwork(SCUNet):
    """Stops the process, so to speak, at the ``left``-th forward pass."""

    left = math.inf

    def forward(self, x):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().forward(x)


@pytest.mark.parametrize("passes", [1, 4, 7, 10])
def test_an_interrupted_run_ends_bit_identical(stack, tmp_path, passes):
    whole, history = run(stack, tmp_path / "whole.pt")
    dying = DyingNetwork(network().architecture)
    dying.load_state_dict(network().state_dict())
    dying.left = passes  # in an epoch there are 3 passes to train and 3 to validate
    with pytest.raises(Killed):
        run(stack, tmp_path / "state.pt", model=dying)
    resumed, again = run(stack, tmp_path / "state.pt")
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert [replace(row, seconds=0) for row in again] == [
        replace(row, seconds=0) for row in history
    ]


def test_the_loss_falls_and_the_best_epoch_is_kept(stack, tmp_path):
    plan = replace(PLAN, epochs=8)
    model, history = run(stack, tmp_path / "state.pt", plan)
    losses = [row.validation_loss for row in history]
    assert losses[-1] < 0.8 * losses[0]
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for name, values in model.state_dict().items():
        assert torch.equal(values, state["best"][name])
    assert history[0].samples == 6


def test_boxes_per_epoch_limits_the_samples(stack, tmp_path):
    _, history = run(stack, tmp_path / "state.pt", replace(PLAN, boxes_per_epoch=4, epochs=1))
    assert history[0].samples == 4


def test_plateau_halves_the_rate_down_to_the_smallest(stack, tmp_path):
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.level = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return x * 0 + self.level * 0

    plan = replace(PLAN, epochs=8, patience=0, learning_rate=8e-4, smallest_learning_rate=1e-4)
    _, history = run(stack, tmp_path / "state.pt", plan, Constant())
    assert [round(row.learning_rate * 1e4, 6) for row in history][:6] == [8, 8, 4, 2, 1, 1]


def test_cosine_ends_at_the_smallest_rate(stack, tmp_path):
    plan = replace(PLAN, schedule="cosine", learning_rate=1e-3, smallest_learning_rate=1e-5)
    _, history = run(stack, tmp_path / "state.pt", plan)
    expected = [1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * k / 3)) / 2 for k in range(3)]
    np.testing.assert_allclose([row.learning_rate for row in history], expected, rtol=1e-6)


def test_a_loss_that_is_not_finite_is_one_line(stack, tmp_path):
    class Exploding(nn.Module):
        def __init__(self):
            super().__init__()
            self.level = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return x * self.level * float("inf")

    with pytest.raises(
        CryoreadyError, match=r"training loss is (nan|inf) in epoch 1, batch 0: lower"
    ):
        run(stack, tmp_path / "state.pt", model=Exploding())


def test_a_state_cut_off_is_one_line(stack, tmp_path):
    run(stack, tmp_path / "state.pt", replace(PLAN, epochs=1))
    content = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(CryoreadyError) as caught:
        run(stack, tmp_path / "state.pt")
    assert "\n" not in str(caught.value)
