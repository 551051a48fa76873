"""Handles the signals that end a run.

A training step saves a checkpoint first: the first signal requests that (`r1exp.step.stop_request`), and a second
one, or `_PATIENCE` seconds, ends its ranks at once. Any other step ends at once. Inside a SLURM job the scheduler
sends several signals and sets the limit itself, so only the first one counts.

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
    """Whether this process runs in a SLURM job of ours."""
    return JOB_VARIABLE in os.environ


class Listener:
    """Receives signals while a run is executed."""

    def __init__(self) -> None:
        self.request: StopRequest | None = None  # the first request
        self._since = 0.0
        self._training: Path | None = None  # folder of the training step that is running

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal: request that the ranks save, or raise what ends the run."""
        first = self.request is None
        if self.request is None:
            self.request = _request(signal.Signals(number))
            self._since = time.monotonic()
        if self._training is None:
            raise self.request.error()
        if first:
            request_stop(self._training, self.request)
        elif not in_job():
            raise self.request.error()

    def check(self) -> None:
        """Raise what ends the run if the ranks had enough time to save."""
        if self.request is not None and not in_job() and time.monotonic() - self._since > _PATIENCE:
            raise self.request.error()

    @contextmanager
    def training(self, folder: Path) -> Iterator[None]:
        """Within the block, a signal requests that the training step in `folder` saves."""
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
