"""How `Run.execute` ends steps that fail before their processes start, and what it reports of reused steps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.config.experiment import Experiment
from r1exp.errors import ExitCode, Interrupted, R1ExpError, Refused
from r1exp.files import write_json
from r1exp.paths import RunPaths
from r1exp.plan.run_plan import read_plan
from r1exp.plan.steps import planned_steps
from r1exp.runner import members as members_module
from r1exp.runner import run as run_module
from r1exp.runner.run import Run
from r1exp.runner.run_directory import start_run
from r1exp.step.status import ArtifactInfo, Status, read_status

Compose = Callable[..., Experiment]
ONE_STEP = ["stage=rl", "tracking=none", "evaluation.before=false", "evaluation.after=false"]


@pytest.fixture
def started(compose_line: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Return a function that makes the run directory of a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def start(*overrides: str) -> Run:
        experiment = compose_line(*overrides, "paths.run=run")
        return start_run(experiment, planned_steps(experiment))

    return start


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        pytest.param(Refused("the data is gone"), "failed", ExitCode.REFUSED, id="an error of r1exp"),
        pytest.param(Interrupted("Ctrl-C"), "interrupted", ExitCode.INTERRUPTED, id="a signal"),
    ],
)
def test_an_error_in_the_reward_check_ends_the_step_and_writes_the_summary(
    error: R1ExpError,
    state: str,
    code: ExitCode,
    started: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = started(*ONE_STEP)

    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(run_module, "report_of", fail)
    found, summary = run.execute()
    status = read_status(run.paths_of(run.plan.steps[0]).folder)
    assert status is not None and (status.state, status.reason) == (state, str(error))
    assert found == (ExitCode.FAILED if state == "failed" else code)
    assert summary["state"] == state
    assert json.loads(RunPaths(run.folder).summary.read_text())["steps"]["grpo"]["reason"] == str(error)


def test_a_reused_step_costs_this_run_no_seconds(started: Callable[..., Run]) -> None:
    run = started("stage=evaluate", "tracking=none")
    (step,) = run.plan.steps
    stored = run.store.paths.steps / step.key
    (stored / "artifact").mkdir(parents=True)
    write_json(stored / "step.json", {"run_id": "earlier"})
    Status(state="done", seconds=885.0, artifact=ArtifactInfo(kind="scores", hash="h")).write(stored)
    code, summary = run.execute()
    assert code == ExitCode.DONE
    entry = summary["steps"][step.name]
    assert (entry["seconds"], entry["original_seconds"], entry["reused_from"]) == (0.0, 885.0, "earlier")
    assert summary["seconds"] == 0.0
    assert summary["elapsed_seconds"] < 60.0
    report = RunPaths(run.folder).report.read_text()
    assert "reused from earlier, 885 s there" in report


def test_editing_a_configuration_file_during_a_sweep_changes_no_later_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "conf" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\nlearning_rate: 0.001\n")

    def finish_and_edit(run: Run) -> tuple[ExitCode, dict[str, Any], None]:
        file.write_text("# @package _global_\nlearning_rate: 0.5\n")
        return ExitCode.FAILED, {}, None

    monkeypatch.setattr(members_module, "perform", finish_and_edit)
    arguments = ["--config-dir", "conf", "-m", *ONE_STEP, "experiment=mine", "seed=1,2"]
    assert main([*arguments, "hydra.sweep.dir=sweep"]) == 3
    rates = [read_plan(tmp_path / "sweep" / member).steps[0].config.learning_rate for member in "01"]
    assert rates == [0.001, 0.001]
