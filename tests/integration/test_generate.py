"""stage=generate against a real vLLM server on a CPU, which is killed as the client is. A short run of benchmarks/generate.py."""

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
