"""What a person sees on a terminal while a step runs, and after Ctrl-C."""

import itertools
import os
import pty
import re
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from r1exp.step.status import read_status

CTRL_C = b"\x03"
QUICK = ["tracking=none", "paths.run=run", "launcher.threads_per_process=1"]


class Terminal:
    """A command in a pseudo-terminal."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.pid, self._end = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ |= {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
            os.execv(sys.executable, [sys.executable, "-m", "r1exp", *QUICK, *overrides])

    def output(self, seconds: float = 120.0) -> Iterator[tuple[float, str]]:
        """Yield what is written, with its time, until the command ends or the seconds have passed."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if not select.select([self._end], [], [], 0.05)[0]:
                continue
            try:
                text = os.read(self._end, 1 << 16)
            except OSError:  # Linux: the other end is closed
                return
            yield time.monotonic(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode(errors="replace"))

    def wait_for(self, pattern: str) -> float:
        """Return when the pattern is on the screen."""
        for at, text in self.output():
            if re.search(pattern, text):
                return at
        raise AssertionError(f"{pattern!r} was never on the screen")

    def type(self, keys: bytes) -> float:
        os.write(self._end, keys)
        return time.monotonic()

    def exit_code(self) -> int:
        for _ in self.output():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.slow
def test_the_bar_of_an_evaluation_moves_at_least_every_two_seconds(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "stage=evaluate", "evaluation.num_problems=1000", "evaluation.samples=3")
    moved: list[float] = []
    shown = ""
    for at, text in terminal.output():
        for count in re.findall(r"([\d,]+)/4,000 completions", text):
            if count != shown:
                moved.append(at)
                shown = count
    assert terminal.exit_code() == 0
    assert len(moved) > 3
    assert max(after - before for before, after in itertools.pairwise(moved)) < 2.0


@pytest.mark.slow
def test_ctrl_c_says_what_is_saved_and_a_second_one_leaves_nothing_running(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "stage=rl", "evaluation.before=false", "evaluation.after=false")
    terminal.wait_for(r"\b[2-9]/100 optimizer steps")
    started = psutil.Process(terminal.pid).children(recursive=True)
    assert started
    typed = terminal.type(CTRL_C)
    assert terminal.wait_for("saves a checkpoint after optimizer step") - typed < 0.5
    typed = terminal.type(CTRL_C)
    assert terminal.exit_code() == 130
    assert time.monotonic() - typed < 5.0
    assert not [each for each in started if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    status = read_status(tmp_path / "run" / "steps" / "01-grpo")
    assert status is not None and status.state == "interrupted"
