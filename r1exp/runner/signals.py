"""Handles the signals that end a run.

A training step saves a checkpoint first: the first signal requests it (`r1exp.step.stop_request`), and a second
signal, or the end of `_PATIENCE` seconds, ends the ranks at once. Any other step ends at once. Inside a SLURM job
the scheduler sends several signals and sets the time limit itself, so that further signals are ignored.

    Ctrl-C, SIGTERM      interrupted: the same command continues from the checkpoint
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
from r1exp.step.stop_request import StopRequest, request_stop, withdraw_stop

_PATIENCE = 60.0  # seconds for the current optimizer step and the checkpoint


def in_job() -> bool:
    """Whether this process runs in a SLURM job that r1exp submitted."""
    return JOB_VARIABLE in os.environ


class Listener:
    """Receives signals while a run is executed."""

    def __init__(self) -> None:
        self.request: StopRequest | None = None  # the first request
        self._requested_at = 0.0  # seconds of the monotonic clock
        self._training: Path | None = None  # folder of the training step that is running

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal: request that the ranks save a checkpoint, or raise the error that ends the run."""
        first = self.request is None
        if self.request is None:
            self.request = _request(signal.Signals(number))
            self._requested_at = time.monotonic()
        if self._training is None:
            raise self.request.error()
        if first:
            request_stop(self._training, self.request)
        elif not in_job():
            raise self.request.error()

    def check(self) -> None:
        """Raise the error that ends the run if the ranks have not saved a checkpoint in time."""
        if self.request is not None and not in_job() and time.monotonic() - self._requested_at > _PATIENCE:
            raise self.request.error()

    @contextmanager
    def training(self, folder: Path) -> Iterator[None]:
        """Within the block, a signal requests that the training step in `folder` saves a checkpoint."""
        withdraw_stop(folder)
        self._training = folder
        try:
            yield
        finally:
            self._training = None


def _request(number: signal.Signals) -> StopRequest:
    if number == signal.SIGUSR1 or (number == signal.SIGTERM and in_job()):
        return StopRequest(
            state="preempted",
            reason=f"the scheduler needs the machine ({number.name}); the run continues from the last checkpoint",
        )
    return StopRequest(
        state="interrupted",
        reason=f"ended by {number.name}; the same command continues from the last checkpoint",
    )


@contextmanager
def listening() -> Iterator[Listener]:
    """Handle Ctrl-C, SIGTERM and SIGUSR1 within the block; only possible in the main thread."""
    listener = Listener()
    if threading.current_thread() is not threading.main_thread():
        yield listener
        return
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, listener.receive) for number in handled}
    try:
        yield listener
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
