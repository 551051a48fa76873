"""The verb plan: its words and options, and what it writes to a terminal and into a pipe."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.errors import ExitCode

ESCAPE = "\x1b["


def on_a_terminal(*arguments: str, folder: Path, **environment: str) -> str:
    """Return what `r1exp` writes to a terminal of 120 x 40."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "r1exp", *arguments], cwd=folder, stdout=theirs, stdin=theirs, stderr=theirs,
        env={**inherited, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(theirs)
    written = b""
    while True:
        try:
            more = os.read(ours, 1 << 16)
        except OSError:  # Linux: the other end is closed
            break
        if not more:
            break
        written += more
    os.close(ours)
    assert process.wait() == 0
    return written.decode()


def test_a_terminal_gets_colors(tmp_path: Path) -> None:
    text = on_a_terminal("plan", "stage=rl", "beta=0.01", folder=tmp_path)
    assert ESCAPE in text and len(text.splitlines()) < 40


def test_no_color_and_a_pipe_get_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ESCAPE not in on_a_terminal("plan", "stage=rl", folder=tmp_path, NO_COLOR="1")
    assert main(["plan", "stage=rl"]) == ExitCode.DONE
    assert ESCAPE not in capsys.readouterr().out


def test_cards_are_words_of_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "stage=rl", "device=h100", "devices=8"]) == ExitCode.DONE
    words = capsys.readouterr().out
    assert main(["plan", "--device", "h100", "stage=rl", "--devices=8"]) == ExitCode.DONE
    assert capsys.readouterr().out == words
    assert "on 8 x h100" in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--full", "--yaml"], "give one of them", id="two views"),
        pytest.param(["--device"], "--device h100 --devices 8", id="no value"),
        pytest.param(["device=h10"], "Did you mean device=h100", id="unknown card"),
        pytest.param(["device=h100", "launcher.device=cpu"], "do not go together", id="two kinds of device"),
        pytest.param(["--fulll"], "no such option", id="unknown option"),
    ],
)
def test_a_mistake_is_refused_with_what_to_type(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == ExitCode.REFUSED
    assert message in capsys.readouterr().err


def test_launch_shows_commands_and_files_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "stage=rl", "launcher=slurm", "--launch"]) == ExitCode.DONE
    text = capsys.readouterr().out
    assert "r1exp.worker" in text and "#SBATCH --nodes=1" in text and "accelerate.yaml:" in text
    assert "beta" not in text
