"""Compares how long a checkpoint takes with the time that a scheduler leaves for it, and says so when it does not fit."""

import time
from collections.abc import Callable
from pathlib import Path

from r1exp.launcher.base import Launcher
from r1exp.step.checkpoints import seconds_of_checkpoint

_LOOK_EVERY = 10.0  # seconds between two looks at the newest checkpoint


class CheckpointTime:
    """Watches the checkpoints of one step.

    Args:
        folder: Folder of the step.
        launcher: Of the step, or of the job that runs it.
        note: Writes a line for the user.
    """

    def __init__(self, folder: Path, launcher: Launcher, note: Callable[[str], None]) -> None:
        self._folder, self._launcher, self._note = folder, launcher, note
        self._next_look = 0.0  # of the monotonic clock
        self._is_said = launcher.seconds_to_save is None

    def follow(self) -> None:
        """Look at the newest checkpoint, and say once that the next one may not be saved in time."""
        now = time.monotonic()
        if self._is_said or now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY
        text = too_slow(seconds_of_checkpoint(self._folder), self._launcher)
        if text is not None:
            self._is_said = True
            self._note(text)


def too_slow(seconds: float | None, launcher: Launcher) -> str | None:
    """Return that a checkpoint takes longer than there is time for, or None."""
    limit = launcher.seconds_to_save
    if seconds is None or limit is None or seconds <= limit:
        return None
    return (
        f"a checkpoint took {seconds:.0f} s, and the scheduler leaves {limit:.0f} s between its signal and the end: what was "
        f"trained since the last periodic checkpoint would be lost; {launcher.advice_to_save}, or save more often "
        "(trainer.save_steps)"
    )
