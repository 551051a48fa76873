"""Shows the members of a sweep that run side by side: a line for each on a terminal, some lines now and then elsewhere.

    sweep: 7 of 24 done, 1 failed, 4 running, 12 waiting; 3:12, about 8:40 left
      8 seed=9      [2/4] sft  ━━━━━━━━━━   31/50  loss 1.234  0:12
      9 seed=10     [4/4] rl   ━━━━━━━━━━  62/100  reward 0.412  1:40

The files of the running members are read, as for the progress of one run. What is left of the sweep is guessed from the
members that have ended: their mean time, for those that wait and for half of those that run, by the number at once.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from r1exp.paths import StepPaths
from r1exp.plan.run_plan import PlanStep
from r1exp.runner.progress import Pace, Rows, duration, pause_between_lines
from r1exp.step.progress import Progress, read_progress
from r1exp.step.status import read_status
from r1exp.terminal import show

_INTERVAL = 0.5  # seconds between two looks at the files
_BAR = 10  # characters
_MARGIN = 3  # rows of the terminal that are left free
_MOST_LINES = 8  # members whose lines are written where there is no terminal


class _Shown:
    """A running member: the step that it is at, and how far that is."""

    def __init__(
        self, number: int, title: str, folder: Path, steps: Sequence[PlanStep], begun: float
    ) -> None:
        self.number, self.title, self.begun = number, title, begun
        self._folder, self._steps = folder, steps
        self._index = 0
        self._broken: set[str] = set()
        self._open()

    def _open(self) -> None:
        paths = self._steps[self._index].paths(self._folder)
        self._paths, self._pace = paths, Pace()
        self.found: Progress | None = None
        self._rows, self._health = Rows(paths.metrics), Rows(paths.health_log)

    def read(self, now: float) -> list[str]:
        """Read what is new; return the sentences of health rules that were broken since."""
        while self._index + 1 < len(self._steps) and self._is_over(self._paths):
            self._index += 1
            self._open()
        self._rows.read()
        self.found = read_progress(self._paths.folder)
        if self.found is not None:
            self._pace.add(now, self.found.done)
        new = {row["rule"]: row["sentence"] for row in self._health.read() if row["rule"] not in self._broken}
        self._broken |= set(new)
        return list(new.values())

    def _is_over(self, paths: StepPaths) -> bool:
        status = read_status(paths.folder) if paths.folder.is_dir() else None
        return (status is not None and status.state == "done") or not self._steps[self._index].runs

    @property
    def step(self) -> str:
        """Return the name of the step with its position."""
        return f"[{self._index + 1}/{len(self._steps)}] {self._steps[self._index].name}"

    @property
    def count(self) -> str:
        """Return the units that are done, of all units of the step."""
        return "starts" if self.found is None else f"{self.found.done:.0f}/{self.found.total:.0f}"

    @property
    def metric(self) -> str:
        """Return the newest value of the first metric that is known."""
        return self._rows.first()

    def left(self, now: float) -> str:
        """Return the time left of the step."""
        seconds = None if self.found is None else self._pace.time_left(now, self.found.total)
        return "" if seconds is None else duration(seconds)

    def line(self, now: float) -> str:
        """Return all of it as a line."""
        left = self.left(now)
        parts = (self.step, self.count, self.metric, f"{left} left" if left else "")
        return f"  {self.title}: {', '.join(part for part in parts if part)}"


class MembersScreen:
    """Shows the members of a sweep while they run.

    Args:
        num_members: Members that are to run.
        at_once: Members at once.
        stream: Where to write; None: standard error.
        clock: Returns seconds.
    """

    def __init__(
        self,
        num_members: int,
        at_once: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_members, self._at_once = num_members, at_once
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._begun = self._last_line = clock()
        self._next_look = self._begun
        self._running: dict[int, _Shown] = {}
        self._ended: dict[str, int] = {}  # state -> members
        self._seconds: list[float] = []  # of each member that has ended
        console = Console(file=self._stream)
        is_terminal = console.is_terminal and not console.is_dumb_terminal
        self._live = (
            Live(
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            if is_terminal
            else None
        )

    @property
    def is_terminal(self) -> bool:
        """Whether running members have lines on a terminal."""
        return self._live is not None

    def started(self, number: int, title: str, folder: Path, steps: Sequence[PlanStep]) -> None:
        """Show a member from now on."""
        self._running[number] = _Shown(number, title, folder, steps, self._clock())

    def gave_way(self, number: int) -> None:
        """Show a member no more: it waits again."""
        del self._running[number]

    def ended(self, number: int, state: str, text: str) -> None:
        """Count a member, and write its result."""
        shown = self._running.pop(number, None)
        if shown is not None:
            self._seconds.append(self._clock() - shown.begun)
        self._ended[state] = self._ended.get(state, 0) + 1
        if self._live is not None and self._live.is_started and sys.stdout.isatty():
            self._live.console.print(Text(text), soft_wrap=True)
        else:
            show(text)

    def note(self, text: str) -> None:
        """Write a line for the user above the members."""
        if self._live is not None and self._live.is_started:
            self._live.console.print(Text(text), soft_wrap=True)
        else:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Within the block others may write to the terminal."""
        if self._live is not None:
            self._live.stop()
        yield

    def follow(self) -> None:
        """Read what is new and show it."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + _INTERVAL
        for shown in self._running.values():
            with suppress(OSError):  # a folder that cannot be read is the error of that member
                for sentence in shown.read(now):
                    self.note(f"{shown.title}: health: {sentence}")
        if self._live is not None:
            self._live.start()
            self._live.update(self.lines(now, self._live.console.size.height), refresh=True)
        elif now - self._last_line >= pause_between_lines(now - self._begun):
            self._last_line = now
            self._stream.write("\n".join(self.text(now)) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Remove the lines of the members from the terminal."""
        if self._live is not None:
            self._live.stop()

    def text(self, now: float) -> list[str]:
        """Return the lines of a log."""
        some = list(self._running.values())[:_MOST_LINES]
        return [self._head(now), *(shown.line(now) for shown in some), *self._rest(len(some))]

    def _head(self, now: float) -> str:
        done = self._ended.get("done", 0)
        others = [f"{count} {state}" for state, count in self._ended.items() if state != "done"]
        waiting = self._num_members - sum(self._ended.values()) - len(self._running)
        counts = [f"{done} of {self._num_members} done", *others, f"{len(self._running)} running"]
        counts += [f"{waiting} waiting"] if waiting > 0 else []
        left = self._time_left(waiting)
        about = "" if left is None else f", about {duration(left)} left"
        return f"sweep: {', '.join(counts)}; {duration(now - self._begun)}{about}"

    def _time_left(self, waiting: int) -> float | None:
        if not self._seconds:
            return None
        mean = sum(self._seconds) / len(self._seconds)
        return mean * max(0.5, (max(0, waiting) + 0.5 * len(self._running)) / self._at_once)

    def _rest(self, num_shown: int) -> list[str]:
        rest = len(self._running) - num_shown
        return [f"  and {rest} more"] if rest > 0 else []

    def lines(self, now: float, height: int) -> Group:
        """Return the head and a line for each running member, as many as a terminal of `height` rows has space for."""
        rows = height - _MARGIN
        fits = len(self._running) <= rows
        some = list(self._running.values())[: rows if fits else max(0, rows - 1)]
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis", min_width=8)
        for style in ("bold", "", "", "dim", "cyan"):
            table.add_column(no_wrap=True, overflow="ellipsis", style=style)
        for shown in some:
            share = 0.0 if shown.found is None else shown.found.done / shown.found.total
            table.add_row(
                Text(shown.title.removeprefix("member ")),
                Text(shown.step),
                ProgressBar(total=1.0, completed=share, width=_BAR),
                Text(shown.count, justify="right"),
                Text(shown.metric),
                Text(shown.left(now), justify="right"),
            )
        head = Text(self._head(now), no_wrap=True, overflow="ellipsis")
        rest = [Text(text, style="dim") for text in self._rest(len(some))]
        return Group(head, *([table] if some else []), *rest)
