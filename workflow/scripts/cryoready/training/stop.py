"""Told to stop, by a signal or by the clock: a training ends after a whole step and is saved."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Thread
from types import FrameType

from cryoready.core.errors import CryoreadyError

SIGNALS = (signal.SIGTERM, signal.SIGINT)  # of a scheduler, and of Ctrl-C
TELLS_SENDER = hasattr(signal, "sigwaitinfo")  # not macOS, where nothing signals all processes
NO_TIME = (
    "the time limit of the job leaves no time for a single step beside reading and validation: "
    "raise runtime of train_network in the profile"
)
IMPATIENCE = 5.0  # s; the same wish often arrives by several ways within less


Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """The training was told to stop. What it had learnt is saved."""


@contextmanager
def signals_to(handler: Handler) -> Iterator[None]:
    """`SIGNALS` go to ``handler``; in the main thread only."""
    former = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handles in former.items():
            signal.signal(number, handles)


def at_once(number: int, frame: FrameType | None) -> None:
    """Handler where there is nothing to finish."""
    raise Stopped


def too_late(number: int, frame: FrameType | None) -> None:
    """Handler where the training has ended, one way or another."""


@contextmanager
def starting_helpers() -> Iterator[None]:
    """Start processes here whose first act is `heed_the_training_alone`.

    SIGTERM is blocked meanwhile, so that it is in all their threads: SciPy's are running before the
    first act.
    """
    former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM] if TELLS_SENDER else [])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def heed_the_training_alone(worker: int) -> None:
    """For processes that make crops: a scheduler's signals reach them too, but the last step of
    the training needs them. They end when the training ends them, also if something failed there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if TELLS_SENDER:
        Thread(target=_end_with_the_training, daemon=True).start()


def _end_with_the_training() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


class Stop:
    """Whether a training is to stop: `after_step` says so, and `due` between epochs.

    A signal ends a process on its own at once, but while `finishing_steps` at the end of the step,
    unless another signal comes `IMPATIENCE` after the first. Processes that train ``together`` end
    where they agree on it, so that none waits for one that has gone: there a signal ends at once
    only what is `cut_short`.

    Parameters
    ----------
    deadline
        seconds since the epoch (Unix time), after which no step is begun.
    together
        whether other processes train the same network.
    """

    def __init__(self, deadline: float = math.inf, *, together: bool = False) -> None:
        self.deadline = deadline
        self.patience = math.inf if together else IMPATIENCE
        self.waits = together  # signals, for the training to ask
        self.told: float | None = None  # when, monotonic
        self.steps = 0

    def after_step(self) -> bool:
        """Whether not to begin another one."""
        self.steps += 1
        return self.due

    @property
    def due(self) -> bool:
        """Whether to stop; for lack of time only when a step was done."""
        return self.told is not None or (self.steps > 0 and self.late)

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return time.time() > self.deadline

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """From the main thread only.

        Raises
        ------
        CryoreadyError
            if the time was up before a single step was done: to go on would end likewise.
        """
        try:
            with signals_to(self._hear):
                yield
        except Stopped:
            if self.late and not self.steps:
                raise CryoreadyError(NO_TIME) from None
            raise

    def finishing_steps(self) -> AbstractContextManager[None]:
        """Signals wait for the end of the step."""
        return self._waiting(True)

    @contextmanager
    def cut_short(self) -> Iterator[None]:
        """A signal, also one that came before, ends at once what is done here."""
        with self._waiting(False):
            if self.told is not None:
                raise Stopped
            yield

    @contextmanager
    def _waiting(self, waits: bool) -> Iterator[None]:
        former, self.waits = self.waits, waits
        try:
            yield
        finally:
            self.waits = former

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self.told = self.told or now
        if not self.waits or now - self.told > self.patience:
            raise Stopped
