"""A training that is told to stop loses no step, and goes on as if it had not been stopped."""

import math
import multiprocessing
import signal
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
from test_loop import PLAN, FakeJudge, Network, assert_equal, repeatable, run

from cryoready.core.errors import CryoreadyError
from cryoready.network.checkpoint import load_training_state
from cryoready.training import stop as stop_module
from cryoready.training.stop import Stop, Stopped, heed_the_training_alone, starting_helpers

SELDOM = replace(PLAN, checkpoint_minutes=1e6)  # no state is saved but for the signal


class Signalled(Network):
    """Receives signals in the middle of its ``left``-th step."""

    signals = (signal.SIGTERM,)

    def forward(self, x):
        result = super().forward(x)
        if self.training and self.left == 0:
            for number in self.signals:
                signal.raise_signal(number)
        return result


class SignalledTwice(Signalled):
    signals = (signal.SIGINT, signal.SIGTERM)


def stopped(stack, state_file, model, stop=None, plan=SELDOM, **more):
    stop = stop or Stop()
    with pytest.raises(Stopped), stop.heeding_signals():
        run(stack, state_file, plan, model, stop=stop, **more)
    progress = load_training_state(state_file)["progress"]
    return progress["epoch"], progress["batch"]


@pytest.mark.parametrize("model", [Signalled, SignalledTwice])
@pytest.mark.parametrize(("steps", "done"), [(1, (0, 1)), (2, (0, 2)), (4, (1, 1))])
def test_the_step_under_way_is_saved(stack, tmp_path, model, steps, done):
    whole = run(stack, tmp_path / "whole.pt")
    assert stopped(stack, tmp_path / "state.pt", model(left=steps)) == done
    resumed = run(stack, tmp_path / "state.pt")
    assert_equal(whole.best, resumed.best)
    assert_equal(whole.network.state_dict(), resumed.network.state_dict())
    assert repeatable(whole) == repeatable(resumed)


def test_who_insists_does_not_wait_for_the_step(stack, tmp_path, monkeypatch):
    monkeypatch.setattr(stop_module, "IMPATIENCE", -1.0)
    stop = Stop()
    with pytest.raises(Stopped), stop.heeding_signals():
        run(stack, tmp_path / "state.pt", SELDOM, Signalled(left=2), stop=stop)
    assert not (tmp_path / "state.pt").exists()


def test_while_maps_are_judged_it_stops_at_once(stack, tmp_path):
    class Signaller(FakeJudge):
        def __call__(self, network):
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("went on")

    plan = replace(SELDOM, validate_every=1)
    file = tmp_path / "state.pt"
    assert stopped(stack, file, Network(), plan=plan, judge=Signaller()) == (0, 3)
    state = run(stack, file, plan, Network(left=6), judge=FakeJudge(1, 2, 3))
    assert [row.samples for row in state.history] == [6, 6, 6]


def test_when_time_is_up_no_step_is_begun(stack, tmp_path):
    assert stopped(stack, tmp_path / "state.pt", Network(), Stop(time.time() - 1)) == (0, 1)


def test_time_that_is_up_after_an_epoch_begins_no_other(stack, tmp_path):
    class SlowJudge(FakeJudge):
        def __call__(self, network):
            stop.deadline = time.time() - 1
            return super().__call__(network)

    stop, file = Stop(), tmp_path / "state.pt"
    plan = replace(SELDOM, validate_every=1)
    judged = {"judge": SlowJudge(1), "plan": plan}
    assert stopped(stack, file, Network(), stop, **judged) == (1, 0)
    assert stop.steps == 3


def test_processes_together_end_where_they_agree():
    """One that left at once would break off what the others say to it."""
    stop = Stop(together=True)
    with stop.heeding_signals():
        assert not stop.due
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        with stop.finishing_steps():
            signal.raise_signal(signal.SIGINT)
        assert stop.due


def cut_short(stop, then):
    with stop.cut_short():
        then()
        raise AssertionError("went on")


def test_who_leads_the_others_is_cut_short_once():
    """In what it does alone; then it has to tell the others, whatever signals still come."""
    stop = Stop(together=True)
    with stop.heeding_signals():
        with pytest.raises(Stopped):
            cut_short(stop, lambda: signal.raise_signal(signal.SIGTERM))
        signal.raise_signal(signal.SIGTERM)


def test_what_can_be_cut_short_is_not_begun_after_a_signal():
    stop = Stop(together=True)
    with stop.heeding_signals():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped):
            cut_short(stop, lambda: pytest.fail("began"))


def test_a_limit_that_leaves_no_time_for_a_step_is_an_error():
    """Or the job would be queued again for ever."""
    stop = Stop(time.time() - 1)
    with pytest.raises(CryoreadyError, match="no time for a single step"), stop.heeding_signals():
        signal.raise_signal(signal.SIGTERM)


def test_signals_mean_what_they_did_when_the_training_is_over():
    former = signal.getsignal(signal.SIGTERM)
    with Stop(math.inf).heeding_signals():
        assert signal.getsignal(signal.SIGTERM) != former
    assert signal.getsignal(signal.SIGTERM) == former


def make_crops(ready):
    heed_the_training_alone(0)
    ready.set()
    time.sleep(600)


def test_a_process_that_makes_crops_heeds_its_parent_alone():
    """A scheduler signals all processes; those that fail to stop would keep the job for ever."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=make_crops, args=(ready,))
    scipy.fft.fftn(np.ones((8, 8, 8)), workers=2)  # its threads are started again in a fork
    with starting_helpers():
        process.start()
    assert ready.wait(60)
    for name in ("TERM", "INT"):
        subprocess.run(["kill", f"-{name}", str(process.pid)], check=True)
    process.join(1)
    assert process.is_alive()
    process.terminate()
    process.join(60)
    assert process.exitcode == 0
