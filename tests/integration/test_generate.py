"""stage=generate against a real vLLM server on a CPU, which is killed as the client is. A short run of benchmarks/generate.py."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "generate.py"

pytestmark = [pytest.mark.integration, pytest.mark.slow]
if find_spec("vllm") is None:
    pytest.skip("needs vLLM: type make vllm", allow_module_level=True)


def test_no_question_is_lost_or_asked_again_when_server_and_client_are_killed() -> None:
    command = [
        sys.executable,
        str(SCRIPT),
        "--part=resume",
        "--questions=80",
        "--concurrency=8",
        "--tokens=16",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answers: 80\ndifferent questions: 80\n" in done.stdout
    assert "of these asked again: 0\n" in done.stdout


def test_an_engine_of_vllm_in_the_process_labels_questions(tmp_path: Path) -> None:
    line = [
        "stage=generate", "rollout=vllm_colocate", "tracking=none", "stage.num_problems=12", "stage.only_right=false",
        "stage.only_finished=false", "max_completion_length=12", "dataset.num_train=40", "dataset.num_test=10",
        "launcher.device=cpu", "paths.run=run",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "r1exp", *line], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = tmp_path / "run" / "steps" / "01-generate" / "artifact" / "answers.jsonl"
    rows = [json.loads(row) for row in answers.read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == 12
    assert all(0 < row["num_tokens"] <= 12 for row in rows)
