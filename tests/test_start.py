"""The parent answers quickly, because it never imports torch."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

LOOK = """
import sys
from r1exp.__main__ import main
code = main(sys.argv[1:])
heavy = [name for name in ("torch", "transformers", "trl", "wandb", "datasets") if name in sys.modules]
print(code, heavy, file=sys.stderr)
"""


def seconds(*command: str, folder: Path) -> float:
    """Return the fastest of three starts: what the machine's other work adds is not the program's."""
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    return min(times)


@pytest.mark.parametrize(
    "words", [("--help",), ("plan",), ("plan", "experiment=gemma2_gsm8k_vote"), ("doctor",)]
)
def test_a_verb_that_trains_nothing_imports_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *words], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1] == "0 []"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["--help", "plan"])
def test_help_and_plan_answer_at_once(verb: str, tmp_path: Path) -> None:
    """The bound of the spine, twice the bare imports plus a second; doubled for a machine that is busy."""
    bare = seconds("-c", "import hydra, pydantic", folder=tmp_path)
    assert seconds("-m", "r1exp", verb, folder=tmp_path) < 2 * (2 * bare + 1.0)
