"""`benchmarks/recipe_kills.py` on a short pipeline: runs that are killed end with the artifacts of the undisturbed one."""

import os
import random
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SHORT = [
    "pipeline=sft_grpo",
    "debug=fast",
    "evaluation.before=false",
    "evaluation.after=false",
    "launcher.threads_per_process=1",
]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = spec_from_file_location("recipe_kills", BENCHMARKS / "recipe_kills.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "recipe_kills", module)
    spec.loader.exec_module(module)
    return module


def test_moments_are_drawn_over_all_steps_in_their_order(script: ModuleType) -> None:
    steps = {"01-sft": 10.0, "02-rl": 30.0, "03-sample": 10.0}
    found = script.moments(steps, 300, random.Random(1))
    assert [moment.step for moment in found] == sorted(moment.step for moment in found)
    assert all(0.0 <= moment.seconds <= steps[moment.step] for moment in found)
    assert 140 < sum(moment.step == "02-rl" for moment in found) < 220  # three fifths of the time: 180
    early = script.moments(steps, 300, random.Random(1), within=0.5)
    assert [moment.seconds for moment in early] == [moment.seconds / 2 for moment in found]
    assert [moment.victim for moment in found[:4]] == ["parent", "worker", "all", "parent"]


@pytest.mark.slow
def test_a_pipeline_that_is_killed_ends_with_the_same_artifacts(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(BENCHMARKS / "recipe_kills.py"),
        "--kills=2",
        "--within=0.3",
        f"--folder={tmp_path / 'k'}",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    done = subprocess.run(
        [*command, "--", *SHORT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 kills" in done.stdout and "artifacts that differ: none (of 2)" in done.stdout
