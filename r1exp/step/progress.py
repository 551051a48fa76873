"""Passes the progress of a step from rank 0 to the parent, through a file in the step's folder.

    <step>/progress.json
    {"done": 62.0, "total": 150, "unit": "optimizer steps", "doing": "generating, token 12 of at most 40"}

A file works with every launcher, on one machine or many. It is written at most twice a second, without fsync: 0.1 ms
each time.
"""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveFloat, ValidationError

from r1exp.distributed import is_main_process
from r1exp.paths import StepPaths
from r1exp.settings import Settings

_INTERVAL = 0.5  # seconds between two writes


class Progress(Settings):
    """What a step has done so far."""

    done: NonNegativeFloat  # units
    total: PositiveFloat  # units
    unit: str  # what is counted, in the plural
    doing: str = ""  # what the step is doing within a unit


class ProgressWriter:
    """Counts the work of a step and writes it from rank 0; the other ranks write nothing.

    Args:
        folder: Folder of the step.
        unit: What is counted, in the plural.
        total: Units of the whole step.
        share: The part of the units that this rank counts: its count is divided by it.
        clock: Returns seconds.
    """

    def __init__(
        self,
        folder: Path,
        unit: str,
        total: float,
        share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = StepPaths(folder).progress if is_main_process() else None
        self._unit, self._total, self._share, self._clock = unit, total, share, clock
        self._done = 0.0
        self._note = ""
        self._next_write = clock()
        self._lock = threading.Lock()  # requests to an endpoint end in several threads

    def advance(self, amount: float) -> None:
        """Count further units."""
        with self._lock:
            self._done += amount / self._share
            self._write(self._note)

    def note(self, text: str) -> None:
        """Set what is shown beside the number of units, from the next one on."""
        self._note = text

    def move_to(self, done: float, doing: str = "", *, now: bool = False) -> None:
        """Set the number of units done, and what the step is doing within the next one; `now` writes it in any case."""
        with self._lock:
            self._done = done
            self._next_write = self._clock() if now else self._next_write
            self._write(doing)

    def _write(self, doing: str) -> None:
        if self._path is None or self._clock() < self._next_write:
            return
        self._next_write = self._clock() + _INTERVAL
        done = min(round(self._done, 3), self._total)
        row = {"done": done, "total": self._total, "unit": self._unit, "doing": doing}
        unfinished = self._path.with_suffix(".new")
        with suppress(OSError):  # a full disk ends the step where it loses something
            unfinished.write_text(json.dumps(row), encoding="utf-8")
            unfinished.replace(self._path)


def read_progress(folder: Path) -> Progress | None:
    """Return the progress of the step in `folder`; None before its work begins."""
    try:
        text = StepPaths(folder).progress.read_text(encoding="utf-8")
        return Progress.model_validate_json(text)
    except (
        FileNotFoundError,
        ValidationError,
    ):  # a network file system may show a file that is not yet whole
        return None
