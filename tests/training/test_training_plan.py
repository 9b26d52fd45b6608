"""What a history means for the next epoch, in closed form."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.training.plan import Epoch, Plan, best_epoch, count_stalls

PLAN = Plan(epochs=10, learning_rate=8e-4, smallest_learning_rate=1e-4, patience=0)


def history(losses, *, scores=None, seconds=60.0):
    """An epoch of ``seconds`` for every validation loss."""
    scores = scores or [None] * len(losses)
    return [
        Epoch(k, 0.5, loss, score, 1e-3, 100, seconds, 100 / seconds, 1.0)
        for k, (loss, score) in enumerate(zip(losses, scores, strict=True), start=1)
    ]


def test_plateau_halves_the_rate_down_to_the_smallest():
    rates = [PLAN.rate(history([1.0] * k)) for k in range(6)]
    np.testing.assert_allclose(rates, [8e-4, 8e-4, 4e-4, 2e-4, 1e-4, 1e-4], rtol=1e-12)


@pytest.mark.parametrize(
    ("losses", "patience", "stalls"),
    [
        ([], 0, 0),
        ([3, 2, 1], 0, 0),
        ([1, 2, 2], 1, 1),
        ([1, 2, 0.5, 2], 1, 0),
        ([1, 0.99995, 0.9999], 1, 1),  # less than 1e-4 of the best is no progress
        ([1, 2, 2, 2, 2], 1, 2),
    ],
)
def test_a_stall_is_more_than_patience_epochs_without_progress(losses, patience, stalls):
    assert count_stalls(losses, patience) == stalls


def test_cosine_ends_at_the_smallest_rate():
    plan = replace(PLAN, schedule="cosine")
    rates = [plan.rate(history([1.0] * k)) for k in range(11)]
    share = np.arange(11) / 10
    np.testing.assert_allclose(rates, 1e-4 + 7e-4 * (1 + np.cos(math.pi * share)) / 2, rtol=1e-12)
    assert rates[-1] == pytest.approx(1e-4)


def test_cosine_follows_the_clock_where_the_minutes_end_first():
    plan = replace(PLAN, schedule="cosine", minutes=4.0)
    half = pytest.approx(1e-4 + 7e-4 / 2)  # 2 of 4 minutes
    assert plan.rate(history([1.0] * 2)) == half
    assert plan.rate(history([1.0]), 60.0, 0.1) == half
    assert plan.rate(history([1.0] * 4)) == pytest.approx(1e-4)


def test_cosine_falls_within_an_epoch_and_plateau_does_not():
    plan = replace(PLAN, epochs=1, schedule="cosine")
    assert plan.rate([], 1e9, 0.5) == pytest.approx(1e-4 + 7e-4 / 2)
    assert plan.rate([], 0.0, 1.0) == pytest.approx(1e-4)
    assert PLAN.rate([], 1e9, 0.5) == 8e-4


def test_what_is_left_are_the_epochs_or_the_minutes():
    assert PLAN.minutes_left(history([1.0] * 4), 2.0) == 12.0
    assert replace(PLAN, minutes=9.0).minutes_left(history([1.0] * 4), 2.0) == 5.0
    assert replace(PLAN, minutes=3.0).minutes_left(history([1.0] * 4), 2.0) == 0.0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"ssim": 1.0, "ssmi": 1.0}, "unknown loss 'ssmi'; known: smooth_l1, ssim, windowed_ssim"),
        ({"ssim": -0.5}, "train.loss.ssim is -0.5; a weight must be 0 or more"),
        ({"ssim": float("nan")}, "train.loss.ssim is nan"),
        ({"ssim": 0.0}, "train.loss has no weight above 0"),
        ({}, "train.loss has no weight above 0"),
    ],
)
def test_bad_weights_of_the_losses_get_one_line(weights, message):
    with pytest.raises(CryoreadyError, match=message) as caught:
        Plan(loss=weights)
    assert "\n" not in str(caught.value)


def test_epochs_minutes_or_no_progress_end_a_run():
    assert not PLAN.ended([])
    assert not PLAN.ended(history([1.0] * 9))
    assert PLAN.ended(history([1.0] * 10))
    assert not replace(PLAN, minutes=4.0).ended(history([1.0] * 3))
    assert replace(PLAN, minutes=4.0).ended(history([1.0] * 4))
    patient = replace(PLAN, stop_after=2)
    assert not patient.ended(history([2.0, 1.0, 1.5]))
    assert patient.ended(history([2.0, 1.0, 1.5, 1.2]))


def test_the_clock_counts_the_epoch_under_way():
    plan = replace(PLAN, minutes=3.0)
    assert not plan.out_of_time(history([1.0] * 2), 59.0)
    assert plan.out_of_time(history([1.0] * 2), 60.0)


def test_the_best_epoch_has_the_highest_score_or_else_the_lowest_loss():
    losses = [3.0, 1.0, 2.0, 1.0]
    assert best_epoch(history(losses)).epoch == 2
    assert best_epoch(history(losses, scores=[None, -0.2, None, -0.1])).epoch == 4


@pytest.mark.parametrize(
    ("boxes", "batch_size", "accumulate", "steps"), [(8, 4, 1, 2), (9, 4, 1, 3), (9, 2, 4, 2)]
)
def test_an_epoch_has_whole_steps(boxes, batch_size, accumulate, steps):
    plan = replace(PLAN, boxes_per_epoch=boxes, batch_size=batch_size, accumulate=accumulate)
    assert plan.steps == steps
