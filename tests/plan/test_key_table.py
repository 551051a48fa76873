"""benchmarks/step_keys.py changes every setting of every stage, and compares the step's key with its result."""

import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import step_key_cases  # noqa: E402 # on the path since the line above
import step_keys  # noqa: E402 # the same


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, step_key_cases.Found]]:
    inputs = step_key_cases.Inputs(tmp_path_factory.mktemp("inputs"))
    return {stage: step_keys.cases_of(stage, inputs) for stage in step_key_cases.BASES}


def test_every_setting_of_every_stage_is_changed_or_has_a_reason(
    cases: dict[str, dict[str, step_key_cases.Found]],
) -> None:
    assert [(stage, key) for stage in cases for key, case in cases[stage].items() if case is None] == []
    assert all(len(found) > 80 for found in cases.values())


def test_every_change_that_is_written_by_hand_is_used(
    cases: dict[str, dict[str, step_key_cases.Found]],
) -> None:
    keys = {key for found in cases.values() for key in found}
    patterns = [
        *step_key_cases.BY_HAND,
        *(key for found in step_key_cases.OF_STAGE.values() for key in found),
    ]
    assert [pattern for pattern in patterns if not any(fnmatch(key, pattern) for key in keys)] == []


@pytest.mark.slow
def test_the_keys_of_sft_and_what_they_change_agree() -> None:
    keys = (
        "seed,learning_rate,max_completion_length,model.rows_per_device.sft,stage.completion_only,"
        "trainer.gradient_checkpointing,trainer.logging_steps,trainer.max_grad_norm,trainer.save_steps"
    )
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "step_keys.py"),
        "--stages=sft",
        f"--keys={keys}",
        "--processes=1",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 settings, 0 disagreements" in done.stdout
    assert "| sft | 9 | 5 | 2 | 2 |" in done.stdout  # decides, changes nothing, digits
