"""`r1exp fork`: a checkpoint of a run is continued with changed settings, and without one the run itself."""

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.config.compose import session
from r1exp.errors import Refused
from r1exp.files import hash_of_file, read_json
from r1exp.launcher.fork_client import fork_servers
from r1exp.paths import CheckpointPaths, RunPaths, StepPaths
from r1exp.runner.fork import Target, command_of_fork
from r1exp.step.status import read_status
from r1exp.tracking.metrics import MetricsFile

LINE = [
    "stage=rl", "max_steps=6", "algorithm.prompts_per_step=2", "num_generations=2", "algorithm.minibatches=2", "dataset.num_train=64",
    "model.shape.hidden_size=32", "model.shape.num_hidden_layers=1", "max_completion_length=8", "evaluation.before=false",
    "evaluation.after=false", "tracking=none", "launcher.threads_per_process=1", "launcher.device=cpu", "trainer.save_steps=1",
    "trainer.save_total_limit=null", "trainer.warmup_steps=0",
]  # fmt: skip
REWARDS = Path(__file__).parents[1] / "algorithm"  # the folder of matrix_rewards


def step_of(run: Path) -> StepPaths:
    return RunPaths(run).step(1, "grpo")


def weights_of(run: Path) -> str:
    return hash_of_file(step_of(run).artifact / "model.safetensors")


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [row for row in MetricsFile(step_of(run).metrics).rows() if "loss" in row]


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("forks")
    before = Path.cwd()
    os.chdir(place)
    try:
        assert main([*LINE, "paths.run=trunk"]) == 0
    finally:
        os.chdir(before)
    return place / "trunk"


@pytest.mark.slow
def test_an_unchanged_fork_ends_where_the_run_ends_also_after_kill_9(trunk: Path, tmp_path: Path) -> None:
    run = tmp_path / "control"
    words = ["fork", f"{trunk}@2", f"paths.store={tmp_path / 'store'}", f"paths.run={run}"]
    process = subprocess.Popen([sys.executable, "-m", "r1exp", *words], cwd=trunk.parent)
    third = CheckpointPaths.at(step_of(run).checkpoints, 3).mark
    while process.poll() is None and not third.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main(words) == 0
    assert weights_of(run) == weights_of(trunk)
    rewards = [[row.get("reward") for row in rows_of(each)] for each in (run, trunk)]
    assert rewards[0] == rewards[1]
    assert [row["step"] for row in rows_of(run)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_an_unchanged_fork_is_taken_from_the_store_of_its_run(
    trunk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fork", f"{trunk}@2", f"paths.run={tmp_path / 'same'}"]) == 0
    assert "reused from trunk" in capsys.readouterr().err
    assert weights_of(tmp_path / "same") == weights_of(trunk)


@pytest.mark.slow
def test_a_changed_fork_shares_the_past_and_goes_on_after_its_run_is_deleted(
    trunk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trunk, copy)
    monkeypatch.chdir(tmp_path)
    words = ["beta=0.5", "learning_rate=1e-3", f"paths.store={tmp_path / 'store'}"]
    assert main(["fork", f"{copy}@4", *words, f"paths.run={tmp_path / 'fork'}", "--until", "none"]) == 2
    assert main(["fork", "--plan", f"{copy}@4", *words]) == 0
    assert "beta 0.5 (was 0.005)" in capsys.readouterr().out
    run = tmp_path / "sweep" / "0"
    swept = ["beta=0.5", *words[1:], f"hydra.sweep.dir={run.parent}", "-m"]
    process = subprocess.Popen([sys.executable, "-m", "r1exp", "fork", f"{copy}@4", *swept], cwd=trunk.parent)
    while process.poll() is None and not RunPaths(run).plan.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shutil.rmtree(copy)
    assert main(["fork", str(run)]) == 0
    rows, before = rows_of(run), rows_of(trunk)
    assert rows[:4] == before[:4]
    assert [row["beta"] for row in rows] == [0.005] * 4 + [0.5] * 2
    assert rows[4]["learning_rate"] == pytest.approx(1e-3 * (1 - 4 / 6))
    assert (
        rows[4]["reward"] == before[4]["reward"]
    )  # the same completions: the same prompts and random numbers
    assert weights_of(run) != weights_of(trunk)
    note = read_json(RunPaths(run).summary)["steps"]["grpo"]["fork"]
    assert note["at"] == 4
    assert "another question" in RunPaths(run).report.read_text()


RANKS = [
    *(word for word in LINE if not word.startswith(("max_steps", "algorithm."))),
    "algorithm=ppo", "max_steps=4", "algorithm.prompts_per_step=2", "algorithm.minibatches=1", "learning_rate=1e-3", "health=off",
    "launcher.num_processes=2", "~rewards.graded", "~rewards.xml_count", "+rewards.letters={kind: 'matrix_rewards:Letters'}",
]  # fmt: skip


def artifact_of(run: Path) -> str:
    """Return the hash of all files of the artifact: with PPO the critic too."""
    status = read_status(RunPaths(run).step(1, "ppo").folder)
    assert status is not None
    assert status.artifact is not None
    return status.artifact.hash


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["ddp", "zero3"])
def test_forks_of_two_ranks_with_a_critic_continue_from_the_state_of_each_rank(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if launcher == "zero3" and find_spec("deepspeed") is None:
        pytest.skip("needs deepspeed: pip install 'r1exp[deepspeed]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(REWARDS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REWARDS), os.environ.get("PYTHONPATH", "")]))
    with fork_servers():
        assert main([*RANKS, f"launcher={launcher}", "paths.run=trunk"]) == 0
        assert main(["fork", "trunk@2", "paths.store=other", "paths.run=same"]) == 0
        assert main(["fork", "trunk@2", "beta=0.5", "paths.run=changed"]) == 0
    assert artifact_of(tmp_path / "same") == artifact_of(tmp_path / "trunk")
    assert artifact_of(tmp_path / "changed") != artifact_of(tmp_path / "trunk")
    before, rows = (
        [row for row in MetricsFile(RunPaths(tmp_path / name).step(1, "ppo").metrics).rows() if "loss" in row]
        for name in ("trunk", "changed")
    )
    assert rows[:2] == before[:2]
    assert [row["beta"] for row in rows] == [0.005] * 2 + [0.5] * 2
    assert rows[2]["reward"] == before[2]["reward"]  # the same prompts and random numbers


@pytest.mark.slow
def test_a_missing_checkpoint_is_refused_with_those_that_exist(
    trunk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fork", f"{trunk}@7", "beta=1"]) == 2
    message = capsys.readouterr().err
    assert f"{trunk}@1" in message
    assert "trainer.save_steps" in message


@pytest.mark.slow
def test_the_command_of_a_fork_has_the_changes_for_its_step_alone(trunk: Path) -> None:
    with session():
        found = command_of_fork(Target(trunk, None, 2).parent(), ["beta=0.1,0.2", "seed=1,2"])
    assert "beta=0.1,0.2" in found
    assert "seed=1,2" in found
    assert "fork.at=2" in found
    assert not any(text.startswith("paths.run") for text in found)


@pytest.mark.parametrize("text", ["run@", "run@zero", "run@0", "run@-1"])
def test_a_checkpoint_is_named_by_its_optimizer_steps(text: str) -> None:
    with pytest.raises(Refused, match="optimizer steps"):
        Target.read(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "takes a checkpoint"),
        (["beta=1"], "takes a checkpoint"),
        (["a", "beta=1"], "which checkpoint"),
        (["a@1", "b"], "every run needs its checkpoint"),
        (["a@1", "b@1"], "put -m before them"),
        (["a@1"], "not the directory of a run"),
        (["a"], "is no fork that has started"),
    ],
)
def test_what_names_no_checkpoint_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fork", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_help_explains_forks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fork", "--help"]) == 0
    assert "another" not in capsys.readouterr().err
