"""Trackers for tests, and what they track."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from r1exp.errors import ExitCode
from r1exp.tracking.base import Level, Row, TrackedRun, Tracker


def tracked(folder: Path, identity: str = "abc") -> TrackedRun:
    """Return a step to track."""
    return TrackedRun(
        identity=identity, name="n/rl", group="g", job_type="rl", config={"beta": 0.1, "model": {"kind": "tiny"}},
        folder=folder,
    )  # fmt: skip


class Notes(Tracker):
    """Remembers every call; fails or waits in the one that it is told to."""

    kind: str = "tests.tracking.toys:Notes"
    fails_at: str = ""
    waits_at: str = ""
    seconds: float = 0.0

    calls: ClassVar[list[Any]] = []

    def _note(self, name: str, *values: Any) -> None:
        if name == self.waits_at:
            time.sleep(self.seconds)
        if name == self.fails_at:
            raise OSError(28, f"No space left, key {'k' * 40}, http://user:pass@host/x")
        self.calls.append((name, *values))

    def start(self, run: TrackedRun) -> None:
        self._note("start", run.identity)

    def log(self, row: Row, step: int) -> None:
        self._note("log", dict(row), step)

    def log_completions(self, rows: Sequence[Row], step: int) -> None:
        self._note("completions", list(rows), step)

    def alert(self, title: str, text: str, level: Level, step: int) -> None:
        self._note("alert", title, level, step)

    def finish(self, code: ExitCode) -> None:
        self._note("finish", int(code))
