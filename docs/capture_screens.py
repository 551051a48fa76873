"""Captures what a person sees: runs a command in a terminal of 120 x 40 and writes its screen to docs/screens/.

    python docs/capture_screens.py             # every screen
    python docs/capture_screens.py plan error  # those of the recordings with these names

A recording is a command in a pseudo-terminal, in a new folder, with the moments at which the screen is copied. A moment
is the first time that a regular expression matches the text on the screen, or the end of the command. Keys can be
typed after it, Ctrl-C for example. Each screen is written as text and as a picture with its colors (SVG).

To add one, add a line to RECORDINGS. A command that trains takes as long as it takes; its seconds differ from run to
run, and so do the screens.
"""

import argparse
import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

FOLDER = Path(__file__).parent / "screens"
COLUMNS, LINES = 120, 40  # characters
CTRL_C = "\x03"
_TURN = 0.05  # seconds between two looks at the screen


@dataclass(frozen=True)
class Moment:
    """When the screen is copied, and what is typed afterwards."""

    name: str  # docs/screens/NAME.txt and NAME.svg
    when: str | None = (
        None  # regular expression that the text on the screen matches; None: the command has ended
    )
    delay: float = 0.0  # seconds between the match and the copy
    keys: str = ""  # typed after the copy


@dataclass(frozen=True)
class Recording:
    """A command, and the moments at which its screen is copied, in order."""

    command: str  # as typed in a shell
    moments: tuple[Moment, ...]
    limit: float = 600.0  # seconds after which the command is ended and the recording fails


RECORDINGS = {
    "plan": Recording("r1exp plan rewards=vote_partial beta=0.01", (Moment("plan"),)),
    "plan-h100": Recording(
        "r1exp plan experiment=gemma2_gsm8k_vote device=h100 devices=8 launcher=zero3 launcher.num_processes=4",
        (Moment("plan-h100"),),
    ),
    "plan-sweep": Recording("r1exp plan sweeps=reward_weights", (Moment("plan-sweep"),)),
    "run": Recording(
        "r1exp",
        (
            Moment("run-evaluation", r"[1-9]\d\d/2,000 completions", delay=0.5),
            Moment("run-sft", r"sft.* [4-9]\d/150 optimizer steps"),
            Moment("run-rl", r"rl.* [3-9]/100 optimizer steps(.|\n)*generating", delay=0.3, keys=CTRL_C),
            Moment("run-ctrl-c", r"saves a checkpoint", delay=0.2),
            Moment("run-interrupted"),
        ),
    ),
    "error": Recording("r1exp plan rewards=vote_partial betta=0.01 seed=1.5", (Moment("error"),)),
}


class Terminal:
    """A command in a pseudo-terminal whose screen can be read."""

    def __init__(self, command: str, folder: Path) -> None:
        self.screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self.screen)
        self._stream.feed(f"$ {command}\r\n".encode())
        self._child, self._terminal = pty.fork()
        if self._child == 0:
            self._become(shlex.split(command), folder)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))

    @staticmethod
    def _become(command: list[str], folder: Path) -> None:
        """Replace the child by the command."""
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # a shell's background job ignores it, and so would the command
        time.sleep(0.2)  # the parent sets the size of the terminal meanwhile
        os.chdir(folder)
        here = Path(sys.executable).parent
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        environment |= {"TERM": "xterm-256color", "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
        environment.pop("NO_COLOR", None)
        program = shutil.which(command[0], path=environment["PATH"])
        if program is None:
            os._exit(127)
        os.execve(program, command, environment)

    def follow(self) -> Iterator[str]:
        """Yield the text of the screen after each change of it, until the command has ended."""
        while True:
            ready, _, _ = select.select([self._terminal], [], [], _TURN)
            if ready:
                try:
                    received = os.read(self._terminal, 1 << 16)
                except OSError:  # Linux: the other end is closed
                    received = b""
                if not received:
                    return
                self._stream.feed(received)
            yield "\n".join(self.screen.display)

    def type(self, keys: str) -> None:
        """Write keys as if they were typed."""
        os.write(self._terminal, keys.encode())

    def close(self, *, force: bool = False) -> None:
        """Wait for the command; with `force`, end it first."""
        if force:
            os.kill(self._child, signal.SIGTERM)
        os.waitpid(self._child, 0)
        os.close(self._terminal)


def record(recording: Recording, folder: Path) -> Iterator[tuple[Moment, Text]]:
    """Run a command in `folder` and yield its screen at each moment.

    Raises:
        SystemExit: the command ended before a moment came, or ran longer than its limit.
    """
    begun = time.monotonic()
    terminal = Terminal(recording.command, folder)
    waiting = list(recording.moments)
    since: float | None = None  # when the first of them matched
    for text in terminal.follow():
        if time.monotonic() - begun > recording.limit:
            terminal.close(force=True)
            raise SystemExit(
                f"{recording.command}: {recording.limit:.0f} s have passed, on the screen:\n{text}"
            )
        if not waiting or waiting[0].when is None:
            continue
        if since is None and re.search(waiting[0].when, text):
            since = time.monotonic()
        if since is not None and time.monotonic() - since >= waiting[0].delay:
            moment, since = waiting.pop(0), None
            yield moment, picture_of(terminal.screen)
            terminal.type(moment.keys)
    terminal.close()
    for moment in waiting:
        if moment.when is not None:
            raise SystemExit(f"{recording.command}: ended before {moment.when!r} was on the screen")
        yield moment, picture_of(terminal.screen)


def picture_of(screen: pyte.Screen) -> Text:
    """Return the content of a screen with its colors, without what is empty at the end of it and of its lines."""
    picture = Text(no_wrap=True, end="")
    last = max((row for row, line in enumerate(screen.display) if line.strip()), default=-1)
    for row in range(last + 1):
        cells = screen.buffer[row]
        width = max((column + 1 for column in range(screen.columns) if cells[column].data.strip()), default=0)
        for column in range(width):
            cell = cells[column]
            picture.append(cell.data, style=_style(cell))
        picture.append("\n")
    return picture


def _style(cell: pyte.screens.Char) -> str:
    words = [word for word in ("bold", "italics", "underscore", "reverse") if getattr(cell, word)]
    style = " ".join(words).replace("italics", "italic").replace("underscore", "underline")
    for prefix, color in (("", cell.fg), (" on ", cell.bg)):
        named = re.sub(r"^bright(.+)", r"bright_\1", color.replace("brown", "yellow"))
        if re.fullmatch("[0-9a-f]{6}", named):
            named = f"#{named}"
        style += "" if named == "default" else f" {prefix}{named}"
    return style.strip()


def write(name: str, picture: Text) -> None:
    """Write a screen as text and as a picture."""
    FOLDER.mkdir(exist_ok=True)
    lines = [line.rstrip() for line in picture.plain.splitlines()]
    (FOLDER / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(
            record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(picture)
        svg = console.export_svg(title="r1exp", unique_id=name)
    without_fonts = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # they would be downloaded
    (FOLDER / f"{name}.svg").write_text(
        without_fonts.replace("Fira Code, monospace", "monospace"), encoding="utf-8"
    )


def main() -> None:
    """Record what was asked for."""
    parser = argparse.ArgumentParser(description="Write what a person sees to docs/screens/.")
    parser.add_argument("names", nargs="*", choices=[[], *RECORDINGS], help="of the recordings; none: all")
    for name in parser.parse_args().names or RECORDINGS:
        with tempfile.TemporaryDirectory() as folder:
            for moment, picture in record(RECORDINGS[name], Path(folder)):
                write(moment.name, picture)
                sys.stdout.write(f"{FOLDER / moment.name}.txt\n")


if __name__ == "__main__":
    main()
