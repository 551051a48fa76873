"""Every file and every command of docs/extending.md works as it is written there, in one folder, in order."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOC = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
_BLOCK = re.compile(
    r"(?:^`(?P<path>[\w./]+)`\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
BLOCKS = [match.groupdict() for match in _BLOCK.finditer(DOC)]
COMMANDS = [
    line for block in BLOCKS if block["language"] == "sh" for line in block["text"].splitlines() if line
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """Return a folder with all files of the page, and the environment in which its package is installed."""
    folder = tmp_path_factory.mktemp("extending")
    for block in BLOCKS:
        if block["path"] is not None:
            path = folder / block["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block["text"], encoding="utf-8")
    metadata = folder / "site" / "my_package-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[r1exp.plugins]\nmy_package = my_package:plugin\n")
    python_path = os.pathsep.join([str(ROOT), str(folder / "site"), str(folder)])
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    yield folder, os.environ | {"PYTHONPATH": python_path, "PATH": programs}


def test_every_block_is_a_file_or_a_command() -> None:
    assert len(BLOCKS) == DOC.count("\n```") / 2
    unnamed = [block for block in BLOCKS if block["path"] is None and block["language"] != "sh"]
    assert unnamed == []
    assert len(COMMANDS) >= 12


@pytest.mark.slow
def test_every_command_works_as_typed(environment: tuple[Path, dict[str, str]]) -> None:
    folder, variables = environment
    for command in COMMANDS:
        done = subprocess.run(
            command, shell=True, cwd=folder, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_the_code_scores_reads_and_learns_as_the_page_says(
    environment: tuple[Path, dict[str, str]],
) -> None:
    folder, variables = environment
    look = """
import torch
from arrow import ARROW
from best import Best
from even import Even
from words import few_words
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context
assert ARROW.write("3+4=7", "7") == "3+4=7\\n=> 7" and ARROW.read_reasoning("3+4=7\\n=> 7") == "3+4=7"
rewards = torch.tensor([1.0, 3.0, 2.0, 5.0, 5.0, 1.0])
assert Best.model_construct().advantages(rewards, 3).tolist() == [-2.0, 1.0, -1.0, 0.0, 0.0, -4.0]
even = Even(kind="even:Even", style="plain", points=2.0)
score = lambda text: even.score(Problem("p", "?", "7"), Completion(text, 3), Context())
assert [score("#### 7"), score("#### 9"), score("#### 8"), score("?")] == [2.0, 0.2, 0.0, 0.0]
assert few_words([[{"content": "a b"}], [{"content": "a b c"}]], limit=2) == [1.0, 0.0]
"""
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
