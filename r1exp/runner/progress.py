"""Shows the progress of a step and of its pipeline: as bars on a terminal, as a line now and then elsewhere.

The parent reads the step's progress.json and metrics.jsonl, so that it works wherever the workers run. Rate and time
left are those of the last `_WINDOW` seconds:

    rate = (done now - done then) / seconds between,    time left = (total - done) / rate
"""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from r1exp.paths import StepPaths
from r1exp.step.progress import Progress, read_progress

_SHOWN = {"reward": "reward", "kl": "kl", "loss": "loss", "mean_token_accuracy": "token acc"}
_WINDOW = 30.0  # seconds over which the rate is measured
_STARTING = "starting: imports, model, data"


def pause_between_lines(elapsed: float) -> float:
    """Return the seconds until the next line of a log: 10 at first, a tenth of the time so far later, at most 300."""
    return min(max(elapsed / 10, 10.0), 300.0)


def duration(seconds: float) -> str:
    """Return seconds as minutes and seconds, or with hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def rate_text(rate: float) -> str:
    """Return units per second, or seconds per unit if a unit takes longer than a second."""
    return f"{rate:,.1f}/s" if rate >= 1.0 else f"{1 / rate:,.1f} s each"


class Pace:
    """The rate of the last seconds.

    Args:
        window: Seconds over which it is measured.
    """

    def __init__(self, window: float = _WINDOW) -> None:
        self._window = window
        self._samples: deque[tuple[float, float]] = deque()  # seconds, units done

    def add(self, seconds: float, done: float) -> None:
        """Record how many units were done at a time. A smaller number than before starts again."""
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()
        if self._samples and done == self._samples[-1][1]:
            return
        self._samples.append((seconds, done))
        while len(self._samples) > 2 and self._samples[1][0] < seconds - self._window:
            self._samples.popleft()

    def rate(self, seconds: float) -> float | None:
        """Return units per second at a time; None before two numbers are known."""
        if len(self._samples) < 2:
            return None
        (first, before), (last, done) = self._samples[0], self._samples[-1]
        # A unit that takes longer than the ones before lowers the rate while it lasts.
        typical = (last - first) / (len(self._samples) - 1)
        spent = (last - first) + max(0.0, seconds - last - typical)
        return (done - before) / spent if spent > 0 else None

    def time_left(self, seconds: float, total: float) -> float | None:
        """Return the seconds until `total` units are done; None if the rate is not known."""
        rate = self.rate(seconds)
        return None if not rate else max(0.0, total - self._samples[-1][1]) / rate


class StepProgress:
    """Shows the progress of one step.

    Args:
        name: Name of the step.
        index: Position of the step in the run, from 1.
        num_steps: Steps of the run.
        folder: Folder of the step.
        begun: When the run began, in seconds of `clock`.
        stream: Where to write; a terminal gets bars, other streams get lines. None: standard error.
        clock: Returns seconds.
    """

    def __init__(
        self,
        name: str,
        index: int,
        num_steps: int,
        folder: Path,
        begun: float,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title = f"[{index}/{num_steps}] {name}"
        self._index, self._num_steps = index, num_steps
        self._folder = folder
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._run_begun, self._begun = begun, clock()
        self._last_line = self._begun
        self._rows = Rows(StepPaths(folder).metrics)
        self._health = Rows(StepPaths(folder).health_log)
        self._broken: dict[str, None] = {}  # health rules that were broken, in order
        self._pace = Pace()
        self._found: Progress | None = None
        self._spinner = Spinner("dots")
        StepPaths(folder).progress.unlink(missing_ok=True)
        self._live = self._bars_on(self._stream)

    @staticmethod
    def _bars_on(stream: TextIO) -> Live | None:
        console = Console(file=stream)
        if not console.is_terminal or console.is_dumb_terminal:
            return None
        # Drawn by `follow`, not by a thread, so that messages are never written into a bar that is being drawn.
        return Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def follow(self) -> None:
        """Read what is new and show it."""
        now = self._clock()
        self._rows.read()
        for row in self._health.read():
            self._report(row)
        self._found = read_progress(self._folder) or self._found
        if self._found is not None:
            self._pace.add(now, self._found.done)
        if self._live is not None:
            self._live.start()  # has no effect after the first time
            self._live.update(self._bars(now), refresh=True)
        elif now - self._last_line >= pause_between_lines(now - self._begun):
            self._last_line = now
            self._write(self.line(now))

    def _report(self, row: dict[str, Any]) -> None:
        """Write that a health rule was broken, once, and name it beside the progress from then on."""
        if row["rule"] not in self._broken:
            self._broken[row["rule"]] = None
            self.note(f"{self._title}: health: {row['sentence']}")

    def _warnings(self) -> str:
        return f"health: {', '.join(self._broken)}" if self._broken else ""

    def note(self, text: str) -> None:
        """Write a line for the user above the bars."""
        if self._live is None:
            self._write(text)
        else:
            self._live.console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        """Show the last health rules that were broken, and remove the bars."""
        for row in self._health.read():
            self._report(row)
        if self._live is not None:
            self._live.stop()
        StepPaths(self._folder).progress.unlink(missing_ok=True)

    def line(self, now: float) -> str:
        """Return the progress as one line."""
        parts = [part for part in (*self._counts(now), self._rows.text(), self._warnings()) if part]
        return f"{self._title}: {', '.join(parts)}"

    def _counts(self, now: float) -> tuple[str, str, str, str]:
        """Return what is done, the rate, the time left, and what the step is doing."""
        found = self._found
        if found is None:
            return f"{_STARTING} ({duration(now - self._begun)})", "", "", ""
        rate, left = self._pace.rate(now), self._pace.time_left(now, found.total)
        return (
            f"{found.done:,.0f}/{found.total:,.0f} {found.unit}",
            "" if not rate else rate_text(rate),
            "" if left is None else f"{duration(left)} left",
            found.doing,
        )

    def _bars(self, now: float) -> Group:
        """Return two bars: of the step, and of the pipeline."""
        found = self._found
        share = 0.0 if found is None else found.done / found.total
        done, rate, left, doing = self._counts(now)
        table = Table.grid(padding=(0, 1))
        table.add_row(
            Text(self._title, style="bold"),
            ProgressBar(total=1.0, completed=share, width=30),
            self._spinner,
            Text(" ".join(part for part in (done, rate) if part)),
            Text(left, style="cyan"),
        )
        if self._num_steps > 1:
            table.add_row(
                Text("whole run", style="dim"),
                ProgressBar(total=self._num_steps, completed=self._index - 1 + share, width=30),
                Text(""),
                Text(f"step {self._index} of {self._num_steps}, {duration(now - self._run_begun)}", "dim"),
            )
        numbers = Text("  ".join(part for part in (doing, self._rows.text()) if part), style="dim")
        warnings = Text(self._warnings(), style="yellow")
        return Group(table, *(text for text in (numbers, warnings) if text))

    def _write(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


class Rows:
    """The newest values in a file of JSON lines that is being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file, self._offset = 0, 0  # inode of the file, and bytes of it that have been read
        self.row: dict[str, Any] = {}

    def read(self) -> list[dict[str, Any]]:
        """Read the new rows, and return them."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._file:  # the file was replaced, because a resumed step dropped rows
                self._file, self._offset = inode, 0
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        rows = [json.loads(line) for line in whole.splitlines()]
        for row in rows:
            self.row |= row
        return rows

    def first(self) -> str:
        """Return the first of the values that are shown."""
        known = ((short, self.row.get(key)) for key, short in _SHOWN.items())
        return next((f"{short} {value:.3f}" for short, value in known if isinstance(value, float | int)), "")

    def text(self) -> str:
        """Return the values that are shown."""
        known = ((short, self.row.get(key)) for key, short in _SHOWN.items())
        return " ".join(
            f"{short} {round(value, 3) + 0.0:.3f}" for short, value in known if isinstance(value, float | int)
        )
