"""The start of a command: without torch, so that it is quick, and in any directory."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1exp.__main__ import main

SCRIPT = """
import sys
from r1exp.__main__ import main
code = main(sys.argv[1:])
heavy = [name for name in ("torch", "transformers", "trl", "wandb", "datasets") if name in sys.modules]
print(code, heavy, file=sys.stderr)
"""


def seconds(*command: str, folder: Path) -> float:
    """Return the time of the fastest of three starts, which other load on the machine affects least."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return min(times)


@pytest.mark.parametrize(
    "arguments", [("--help",), ("plan",), ("plan", "experiment=gemma2_gsm8k_vote"), ("doctor",)]
)
def test_a_verb_that_does_not_train_imports_no_large_library(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1] == "0 []"
    assert list(tmp_path.iterdir()) == []


def test_a_command_typed_in_a_deleted_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["plan"]) == 2
    assert "the directory in which this was typed has been deleted" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["--help", "plan"])
def test_help_and_plan_start_quickly(verb: str, tmp_path: Path) -> None:
    """The limit is twice the time of the bare imports plus a second, doubled for a machine with other load."""
    bare = seconds("-c", "import hydra, pydantic", folder=tmp_path)
    assert seconds("-m", "r1exp", verb, folder=tmp_path) < 2 * (2 * bare + 1.0)
