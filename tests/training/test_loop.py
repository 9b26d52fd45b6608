"""The loop on a tiny network: it learns, and an interruption leaves no trace."""

import math
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn

from cryoready.core.errors import CryoreadyError
from cryoready.training.box_dataset import BoxDataset, BoxStack
from cryoready.training.loop import train
from cryoready.training.mixed_dataset import MixedDataset
from cryoready.training.plan import Plan
from cryoready.training.team import Team

CROP = 12
CPU = torch.device("cpu")
PLAN = Plan(
    epochs=3,
    batch_size=2,
    boxes_per_epoch=6,
    learning_rate=3e-3,
    warmup=4,
    ema=0.9,
    checkpoint_minutes=0.0,
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Killed(Exception):
    pass


class Network(nn.Module):
    """Two convolutions, which can stop the process, so to speak, at the ``left``-th step."""

    def __init__(self, left=math.inf):
        super().__init__()
        torch.manual_seed(3)
        self.left = left
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.second = nn.Conv3d(4, 1, 3, padding=1)

    def forward(self, x):
        if self.training:
            self.left -= 1
        if self.left < 0:
            raise Killed
        return 100 * self.second(self.first(x / 100).relu())


def run(stack, state_file, plan=PLAN, model=None, **more):
    data = BoxDataset([stack], CROP)
    samples = MixedDataset(data, None, real_share=1.0, seed=1)
    return train(model or Network(), samples, data, plan, state_file=state_file, device=CPU, **more)


def repeatable(state):
    """The history without what depends on the machine."""
    return [replace(row, seconds=0, samples_per_second=0, memory_gb=0) for row in state.history]


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert torch.equal(values, second[name]), name


class Constant(nn.Module):
    """Returns nothing, whatever happens: no progress."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x * 0 + self.level * 0


class FakeJudge:
    """Gives the ``scores`` one after the other."""

    def __init__(self, *scores):
        self.scores = iter(scores)

    def deposited(self):
        return [{"id": "a", "q_mean": 0.5}]

    def __call__(self, network):
        assert not network.training
        return next(self.scores), [{"id": "a", "q_mean": 0.6}]


@pytest.mark.parametrize(
    ("steps", "accumulate", "schedule"),
    [(1, 1, "plateau"), (3, 1, "plateau"), (4, 1, "cosine"), (7, 1, "plateau"), (5, 2, "cosine")],
)
def test_an_interrupted_run_ends_bit_identical(stack, tmp_path, steps, accumulate, schedule):
    plan = replace(PLAN, accumulate=accumulate, boxes_per_epoch=6 * accumulate, schedule=schedule)
    whole = run(stack, tmp_path / "whole.pt", plan)
    with pytest.raises(Killed):
        run(stack, tmp_path / "state.pt", plan, Network(left=steps))
    resumed = run(stack, tmp_path / "state.pt", plan)
    assert_equal(whole.best, resumed.best)
    assert_equal(whole.weights, resumed.weights)
    assert_equal(whole.network.state_dict(), resumed.network.state_dict())
    assert repeatable(whole) == repeatable(resumed)


def test_a_run_killed_while_it_was_judged_trains_no_step_twice(stack, tmp_path):
    class Killer(FakeJudge):
        def __call__(self, network):
            raise Killed

    plan = replace(PLAN, validate_every=1)
    with pytest.raises(Killed):
        run(stack, tmp_path / "state.pt", plan, judge=Killer())
    two_epochs = Network(left=6)
    state = run(stack, tmp_path / "state.pt", plan, two_epochs, judge=FakeJudge(1, 2, 3))
    assert [row.samples for row in state.history] == [6, 6, 6]
    assert [row["epoch"] for row in state.judged] == [0, 1, 2, 3]


def test_the_loss_falls_and_the_best_epoch_is_kept(stack, tmp_path):
    state = run(stack, tmp_path / "state.pt", replace(PLAN, epochs=8))
    losses = [row.validation_loss for row in state.history]
    assert losses[-1] < 0.8 * losses[0]
    assert np.argmin(losses) == 7
    assert_equal(state.best, state.weights)


def test_half_the_batch_twice_is_the_same_step(stack, tmp_path):
    one_step = replace(PLAN, epochs=1, batch_size=4, boxes_per_epoch=4)
    whole = gradients(run(stack, tmp_path / "whole.pt", one_step))
    halves = gradients(
        run(stack, tmp_path / "halves.pt", replace(one_step, batch_size=2, accumulate=2))
    )
    assert_close(whole, halves)


def gradients(state):
    """Of the only step: Adam's first moment is then (1 - 0.9) times the gradient."""
    moments = state.optimizer.state_dict()["state"].values()
    return [10 * moment["exp_avg"] for moment in moments]


def assert_close(first, second):
    scale = max(float(values.abs().max()) for values in first)
    assert scale > 0
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * scale, rtol=1e-4)


def one_of_two(rank, port, folder):
    """A process of a team of two; the second one writes down the gradients that it ends with."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    stack = BoxStack.open(folder / "boxes.npy")
    plan = replace(PLAN, epochs=1, batch_size=4, boxes_per_epoch=4)
    state = run(stack, folder / "two.pt", plan, team=Team(rank, 2))
    if rank == 1:
        torch.save([gradients(state), repeatable(state)[0].train_loss], folder / "second.pt")
    distributed.destroy_process_group()


def test_two_processes_have_the_gradients_of_one(stack, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(one_of_two, (port, tmp_path), nprocs=2)
    alone = run(
        stack,
        tmp_path / "one.pt",
        replace(PLAN, epochs=1, batch_size=4, boxes_per_epoch=4),
    )
    second, loss = torch.load(tmp_path / "second.pt", weights_only=True)
    assert_close(gradients(alone), second)
    assert loss == pytest.approx(alone.history[0].train_loss, rel=1e-5)


def test_the_average_follows_the_recurrence(stack, tmp_path):
    """w̄ ← d w̄ + (1 - d) w with d = min(0.9, (1 + n)/(10 + n)) after n steps."""
    plan = replace(PLAN, epochs=1, boxes_per_epoch=2)
    seen = []
    for steps in (1, 2, 3):
        state = run(stack, tmp_path / f"{steps}.pt", replace(plan, boxes_per_epoch=2 * steps))
        seen.append(state.network.state_dict()["first.weight"].clone())
    average = seen[0]
    for n, weights in enumerate(seen[1:], start=1):
        d = min(0.9, (1 + n) / (10 + n))
        average = d * average + (1 - d) * weights
    torch.testing.assert_close(state.weights["first.weight"], average)


def test_without_averaging_the_weights_themselves_are_kept(stack, tmp_path):
    state = run(stack, tmp_path / "state.pt", replace(PLAN, ema=0.0))
    assert_equal(state.weights, state.network.state_dict())


def test_an_epoch_has_whole_steps(stack, tmp_path):
    plan = replace(PLAN, boxes_per_epoch=5, epochs=1)
    assert run(stack, tmp_path / "state.pt", plan).history[0].samples == 6


def test_the_rate_warms_up_step_by_step(stack, tmp_path):
    rates = []
    run(
        *(stack, tmp_path / "state.pt", replace(PLAN, epochs=6, boxes_per_epoch=2, patience=9)),
        on_epoch=lambda state: rates.append(state.optimizer.param_groups[0]["lr"]),
    )
    expected = np.array([1, 2, 3, 4, 4, 4]) / 4 * PLAN.learning_rate
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_the_cosine_falls_step_by_step(stack, tmp_path):
    """The last of two steps of epoch k is after (k - 1/2) of 3 epochs."""
    plan = replace(PLAN, boxes_per_epoch=4, warmup=0, schedule="cosine", smallest_learning_rate=0)
    rates = []
    state = run(
        stack,
        tmp_path / "state.pt",
        plan,
        on_epoch=lambda state: rates.append(state.optimizer.param_groups[0]["lr"]),
    )
    expected = PLAN.learning_rate * (1 + np.cos(np.pi * np.array([1, 3, 5]) / 6)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    starts = PLAN.learning_rate * (1 + np.cos(np.pi * np.arange(3) / 3)) / 2
    np.testing.assert_allclose([row.learning_rate for row in state.history], starts, rtol=1e-12)


def test_the_clock_ends_a_run_with_a_validated_epoch(stack, tmp_path):
    plan = replace(PLAN, minutes=1e-9, validate_every=5)
    state = run(stack, tmp_path / "state.pt", plan, judge=FakeJudge(0.25))
    (row,) = state.history
    assert row.samples == 2
    assert row.score == 0.25
    assert math.isfinite(row.validation_loss)


def test_no_progress_ends_a_run(stack, tmp_path):
    plan = replace(PLAN, epochs=50, stop_after=2)
    assert len(run(stack, tmp_path / "state.pt", plan, Constant()).history) == 3


def test_the_score_chooses_the_best_epoch(stack, tmp_path):
    plan = replace(PLAN, epochs=5, validate_every=2, boxes_per_epoch=2)
    kept = []
    state = run(
        stack,
        tmp_path / "state.pt",
        plan,
        judge=FakeJudge(0.3, 0.1, 0.2),
        on_epoch=lambda state: kept.append(state.weights),
    )
    assert [row.score for row in state.history] == [None, 0.3, None, 0.1, 0.2]
    assert_equal(state.best, kept[1])
    assert [(row["epoch"], row["q_mean"]) for row in state.judged] == [
        (0, 0.5),
        (2, 0.6),
        (4, 0.6),
        (5, 0.6),
    ]


def test_the_pace_is_told_once(stack, tmp_path):
    lines = []
    plan = replace(PLAN, epochs=2, boxes_per_epoch=12)
    run(stack, tmp_path / "state.pt", plan, report=lines.append)
    (line,) = lines
    assert "crops/s at first" in line
    assert "GB of memory" in line


class Exploding(nn.Module):
    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.level * float("inf")


def test_a_loss_that_is_not_finite_is_one_line_and_its_batch_is_kept(stack, tmp_path):
    with pytest.raises(
        CryoreadyError, match=r"training loss is (nan|inf) in epoch 1, batch 0: lower"
    ) as caught:
        run(stack, tmp_path / "state.pt", model=Exploding())
    kept = tmp_path / "batch.npz"
    assert "\n" not in str(caught.value)
    assert str(kept) in str(caught.value)
    with np.load(kept) as batch:
        samples = MixedDataset(BoxDataset([stack], CROP), None, real_share=1.0, seed=1)
        for i in range(2):
            density, target = samples[0, i]
            np.testing.assert_array_equal(batch["map"][i], density)
            np.testing.assert_array_equal(batch["target"][i], target)


def test_out_of_memory_is_one_line(stack, tmp_path):
    class Greedy(Constant):
        def forward(self, x):
            return x + torch.empty(1 << 60, dtype=torch.uint8)

    with pytest.raises(CryoreadyError, match=r"out of memory on cpu at train.batch_size = 2") as no:
        run(stack, tmp_path / "state.pt", model=Greedy())
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_box_is_named(stack, tmp_path, workers):
    boxes = np.load(stack.path)
    boxes[:, 0, 3, 3, 3] = np.nan
    np.save(stack.path, boxes)
    with pytest.raises(CryoreadyError, match=r"^.*boxes.npy: box \d has values") as caught:
        run(stack, tmp_path / "state.pt", replace(PLAN, workers=workers))
    assert "\n" not in str(caught.value)


def test_workers_make_the_same_crops(stack, tmp_path):
    plan = replace(PLAN, epochs=1)
    alone = run(stack, tmp_path / "a.pt", plan)
    helped = run(stack, tmp_path / "b.pt", replace(plan, workers=2))
    assert_equal(alone.weights, helped.weights)


def test_a_state_cut_off_is_one_line(stack, tmp_path):
    run(stack, tmp_path / "state.pt", replace(PLAN, epochs=1))
    content = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(CryoreadyError) as caught:
        run(stack, tmp_path / "state.pt")
    assert "\n" not in str(caught.value)


def test_bfloat16_stays_close_to_float32(stack, tmp_path):
    exact = run(stack, tmp_path / "a.pt", replace(PLAN, epochs=1)).history[0]
    coarse = run(stack, tmp_path / "b.pt", replace(PLAN, epochs=1, precision="bf16")).history[0]
    assert coarse.train_loss == pytest.approx(exact.train_loss, rel=0.02)
    assert coarse.train_loss != exact.train_loss


def test_the_state_of_a_run_is_where_it_was_asked_for(stack, tmp_path):
    run(stack, tmp_path / "state.pt", replace(PLAN, epochs=1))
    assert {path.name for path in Path(tmp_path).iterdir()} == {"boxes.npy", "state.pt"}
