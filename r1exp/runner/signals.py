"""What does a run do when it is told to end?

A training step saves a checkpoint first: the first signal asks its ranks to (`r1exp.step.stop_request`), and a
second one, or `_PATIENCE` seconds, ends them at once. Any other work ends at once. Inside a SLURM job
the scheduler sends several signals and sets the limit itself, so there only the first one counts.

    Ctrl-C, SIGTERM      interrupted: the same command goes on from the checkpoint
    SIGUSR1, and SIGTERM in a job      preempted: exit code 75; the job is requeued
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from r1exp.launcher.slurm import JOB_VARIABLE
from r1exp.step.stop_request import StopRequest, ask, withdraw

_PATIENCE = 60.0  # seconds for the current optimizer step and the checkpoint


def in_job() -> bool:
    """Whether this process runs in a SLURM job of ours."""
    return JOB_VARIABLE in os.environ


class Listener:
    """Hears signals while a run is carried out."""

    def __init__(self) -> None:
        self.request: StopRequest | None = None  # the first thing that was asked
        self._since = 0.0
        self._training: Path | None = None  # folder of the training step at work

    def hear(self, number: int, frame: FrameType | None = None) -> None:
        """Take a signal: ask the ranks to save, or raise what ends the run."""
        first = self.request is None
        if self.request is None:
            self.request = _request(signal.Signals(number))
            self._since = time.monotonic()
        if self._training is None:
            raise self.request.error()
        if first:
            ask(self._training, self.request)
        elif not in_job():
            raise self.request.error()

    def look(self) -> None:
        """Raise what ends the run if the ranks had their time to save."""
        if self.request is not None and not in_job() and time.monotonic() - self._since > _PATIENCE:
            raise self.request.error()

    @contextmanager
    def training(self, folder: Path) -> Iterator[None]:
        """For the block, a signal asks the training step in `folder` to save."""
        withdraw(folder)
        self._training = folder
        try:
            yield
        finally:
            self._training = None


def _request(number: signal.Signals) -> StopRequest:
    if number == signal.SIGUSR1 or (number == signal.SIGTERM and in_job()):
        return StopRequest(
            state="preempted",
            reason=f"the scheduler wants the machine ({number.name}); the run goes on from the last checkpoint",
        )
    return StopRequest(
        state="interrupted",
        reason=f"ended by {number.name}; the same command goes on from the last checkpoint",
    )


@contextmanager
def listening() -> Iterator[Listener]:
    """Hear Ctrl-C, SIGTERM and SIGUSR1 for the block. In any other thread than the main one, hear nothing."""
    listener = Listener()
    if threading.current_thread() is not threading.main_thread():
        yield listener
        return
    heard = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, listener.hear) for number in heard}
    try:
        yield listener
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
