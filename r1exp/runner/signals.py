"""Handles the signals that end a run.

While a step runs, a signal is only recorded; `Listener.check`, which is called several times per second, answers it:

* A training step that has taken optimizer steps since its last checkpoint saves one first: the first signal requests it
  (`r1exp.step.stop_request`). A second signal, or the end of `_PATIENCE` seconds, ends the processes at once.
* Any other step ends at once, because nothing would be saved.

In both cases the listener says so first.

Between two steps, and while a step is prepared, the first signal raises the error that ends the run. No other signal
raises: a second one would interrupt the end of the processes, and a step whose status is being written would stay
`running`. Inside a SLURM job the scheduler sends several signals and sets the time
limit itself, so that further signals are ignored.

    Ctrl-C, SIGTERM      interrupted: the same command continues from the checkpoint
    SIGUSR1, and SIGTERM in a job or with launcher=torchrun      preempted: exit code 75; the job is requeued
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from r1exp.launcher.slurm import JOB_VARIABLE
from r1exp.paths import CheckpointPaths
from r1exp.step.checkpoints import last_checkpoint, seconds_of_checkpoint
from r1exp.step.progress import read_progress
from r1exp.step.stop_request import StopRequest, request_stop, withdraw_stop
from r1exp.terminal import say

_PATIENCE = 60.0  # seconds for the current optimizer step and the checkpoint, or twice as long as the last checkpoint took
_WORTH_SAYING = 10.0  # seconds of a checkpoint
_GRACE = 20.0  # seconds that processes get to end after SIGTERM


def in_job() -> bool:
    """Whether this process runs in a SLURM job that r1exp submitted."""
    return JOB_VARIABLE in os.environ


class Listener:
    """Receives signals while a run is executed.

    Args:
        is_scheduled: Whether a scheduler ends this process with SIGTERM and starts it again.

    Attributes:
        request: The first request to end the run.
        note: Writes a line for the user.
    """

    def __init__(self, is_scheduled: bool = False) -> None:
        self._is_scheduled = is_scheduled or in_job()
        self.request: StopRequest | None = None
        self.note: Callable[[str], None] = say
        self._requested_at = 0.0  # seconds of the monotonic clock
        self._num_signals = 0
        self._step: Path | None = None  # folder of the step that is running
        self._can_save = False  # whether that step saves checkpoints
        self._is_saving = False
        self._is_interruptible = True  # whether the first signal raises

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Record a signal; raise the error that ends the run if it is the first and the block is interruptible."""
        self._num_signals += 1
        if self.request is not None:
            return
        self.request = _request(signal.Signals(number), self._is_scheduled)
        self._requested_at = time.monotonic()
        if self._is_interruptible:
            self._end_the_run()

    @contextmanager
    def interruptible(self, value: bool = True) -> Iterator[None]:
        """Within the block, the first signal raises the error that ends the run; with `value=False` none does."""
        before, self._is_interruptible = self._is_interruptible, value
        try:
            if value and self.request is not None:
                self._end_the_run()
            yield
        finally:
            self._is_interruptible = before

    def _end_the_run(self) -> None:
        assert self.request is not None
        self.note(f"{self._cause()}: ending the run")
        raise self.request.error()

    def check(self) -> None:
        """Answer a signal: request that the ranks save a checkpoint, or raise the error that ends the run."""
        if self.request is None:
            return
        assert self._step is not None
        if self._is_saving:
            is_limited = not in_job() and self.request.state != "preempted"  # a scheduler has its own limit
            if is_limited and (self._num_signals > 1 or self._has_waited(self._patience())):
                self.note("ending now, without a checkpoint")
                raise self.request.error()
            return
        if self._has_new_steps():
            self._is_saving = True
            self.note(self._saving_text())
            request_stop(self._step, self.request)
        else:
            self.note(f"{self._cause()}: ending {self._step.name}; the same command continues from here")
            raise self.request.error()

    def grace(self) -> float:
        """Return how many seconds processes get to end: none after a second signal."""
        return 0.0 if self._num_signals > 1 and not in_job() else _GRACE

    @contextmanager
    def running(self, folder: Path, *, can_save: bool) -> Iterator[None]:
        """Within the block, `check` answers signals for the step in `folder`.

        Args:
            folder: Folder of the step.
            can_save: Whether the step saves checkpoints.
        """
        withdraw_stop(folder)
        self._step, self._can_save, self._is_saving = folder, can_save, False
        try:
            with self.interruptible(False):
                yield
        finally:
            self._step = None

    def _has_waited(self, seconds: float) -> bool:
        return time.monotonic() - self._requested_at > seconds

    def _patience(self) -> float:
        """Return the seconds that a checkpoint may take before the processes are ended without it."""
        assert self._step is not None
        return max(_PATIENCE, 2 * (seconds_of_checkpoint(self._step) or 0.0))

    def _has_new_steps(self) -> bool:
        """Whether the step would lose optimizer steps if it ended now."""
        assert self._step is not None
        progress = read_progress(self._step) if self._can_save else None
        if progress is None:
            return False
        checkpoint = last_checkpoint(self._step)
        saved = 0 if checkpoint is None else CheckpointPaths(checkpoint).global_step
        return progress.done >= saved + 1

    def _saving_text(self) -> str:
        assert self._step is not None
        progress = read_progress(self._step)
        where = "" if progress is None else f" {int(progress.done) + 1} of {progress.total:.0f}"
        again = "" if in_job() else "; Ctrl-C again ends now, without it"
        seconds = seconds_of_checkpoint(self._step) or 0.0
        took = f" (the last one took {seconds:.0f} s)" if seconds > _WORTH_SAYING else ""
        return f"{self._cause()}: {self._step.name} saves a checkpoint after optimizer step{where}{took} and ends{again}"

    def _cause(self) -> str:
        assert self.request is not None
        return "Ctrl-C" if "SIGINT" in self.request.reason else self.request.state


def _request(number: signal.Signals, is_scheduled: bool) -> StopRequest:
    if number == signal.SIGUSR1 or (number == signal.SIGTERM and is_scheduled):
        return StopRequest(
            state="preempted",
            reason=f"the scheduler needs the machine ({number.name}); the run continues from the last checkpoint",
        )
    return StopRequest(
        state="interrupted",
        reason=f"ended by {number.name}; the same command continues from the last checkpoint",
    )


@contextmanager
def listening(is_scheduled: bool = False) -> Iterator[Listener]:
    """Handle Ctrl-C, SIGTERM and SIGUSR1 within the block; only possible in the main thread.

    Args:
        is_scheduled: Whether a scheduler ends this process with SIGTERM and starts it again.
    """
    listener = Listener(is_scheduled)
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
