"""How `Run.execute` ends steps that fail before their processes start, and what it reports of reused steps."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.config.experiment import Experiment
from r1exp.errors import ExitCode, Interrupted, R1ExpError, Refused
from r1exp.files import hash_of_folder, write_json
from r1exp.paths import RunPaths
from r1exp.plan.run_plan import PlanStep, read_plan
from r1exp.plan.steps import planned_steps
from r1exp.runner import members as members_module
from r1exp.runner import run as run_module
from r1exp.runner.run import Run
from r1exp.runner.run_directory import start_run
from r1exp.step.executions import note_execution
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
        pytest.param(ZeroDivisionError("oh"), "failed", ExitCode.FAILED, id="an error of foreign code"),
    ],
)
def test_an_error_in_the_reward_check_ends_the_step_and_writes_the_summary(
    error: Exception,
    state: str,
    code: ExitCode,
    started: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(started(*ONE_STEP).plan, Path("run"))  # as in a job, where no reward has been checked before

    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(run_module, "report_of", fail)
    found, summary = run.execute()
    status = read_status(run.paths_of(run.plan.steps[0]).folder)
    reason = str(error) if isinstance(error, R1ExpError) else f"{type(error).__name__}: {error}"
    assert status is not None and (status.state, status.reason) == (state, reason)
    assert found == (ExitCode.FAILED if state == "failed" else code)
    assert summary["state"] == state
    assert json.loads(RunPaths(run.folder).summary.read_text())["steps"]["grpo"]["reason"] == reason


def test_a_signal_in_the_reward_check_leaves_no_step_running(
    started: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(started(*ONE_STEP).plan, Path("run"))
    monkeypatch.setattr(run_module, "report_of", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
    code, summary = run.execute()
    status = read_status(run.paths_of(run.plan.steps[0]).folder)
    assert status is not None and status.state == summary["state"] == "interrupted"
    assert code == ExitCode.INTERRUPTED


def test_the_artifact_of_a_start_that_was_killed_before_its_status_was_written_is_made_again(
    started: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(started(*ONE_STEP).plan, Path("run"))
    paths = run.paths_of(run.plan.steps[0])
    write_json(paths.artifact / "weights.json", {})
    Status(state="running").write(paths.folder)

    def refuse(*args: Any) -> None:
        raise Refused("this start ends before it has an artifact")

    monkeypatch.setattr(run_module, "report_of", refuse)
    run.execute()
    assert not paths.artifact.exists()  # or the rename of the new one fails, at every start


def test_a_reused_step_costs_this_run_no_seconds(started: Callable[..., Run]) -> None:
    run = started("stage=evaluate", "tracking=none")
    (step,) = run.plan.steps
    stored = run.store.paths.steps / run.plan.slot(step, run.folder)
    (stored / "artifact").mkdir(parents=True)
    write_json(stored / "step.json", {"run_id": "0", "run_group": "earlier"})
    artifact = ArtifactInfo(kind="scores", hash=hash_of_folder(stored / "artifact"))
    Status(state="done", seconds=885.0, artifact=artifact, numerics=step.numerics).write(stored)
    code, summary = run.execute()
    assert code == ExitCode.DONE
    entry = summary["steps"][step.name]
    assert (entry["seconds"], entry["original_seconds"], entry["reused_from"]) == (0.0, 885.0, "earlier/0")
    assert summary["seconds"] == 0.0
    assert summary["elapsed_seconds"] < 60.0
    report = RunPaths(run.folder).report.read_text()
    assert "reused from earlier/0, 885 s there" in report


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


def test_a_step_that_a_health_rule_stopped_stays_stopped_for_every_run(started: Callable[..., Run]) -> None:
    first = started(*ONE_STEP)
    (step,) = first.plan.steps
    folder = first.paths_of(step).folder
    folder.mkdir(parents=True)
    Status(state="stopped", reason="kl_explosion: kl 12 is above 10").write(folder)
    note_execution(first.store.paths.working_directory(first.plan.slot(step, first.folder)), folder)
    second = Run(first.plan, first.folder.with_name("second"))
    second.folder.mkdir()
    for run in (first, second):
        code, summary = run.execute()
        assert code == ExitCode.STOPPED
        assert summary["steps"][step.name]["reason"] == "kl_explosion: kl 12 is above 10"
        assert summary["objective"] is None


def test_a_step_whose_artifact_was_edited_is_not_reported(started: Callable[..., Run]) -> None:
    run = started("stage=evaluate", "tracking=none")
    (step,) = run.plan.steps
    folder = run.paths_of(step).folder
    write_json(folder / "artifact" / "scores.json", {"summary": {}})
    artifact = ArtifactInfo(kind="scores", hash=hash_of_folder(folder / "artifact"))
    Status(state="done", artifact=artifact).write(folder)
    write_json(folder / "artifact" / "scores.json", {"summary": {"sampled": 1.0}})
    code, _ = run.execute()
    assert code == ExitCode.FAILED


@pytest.fixture
def made_elsewhere(started: Callable[..., Run]) -> Run:
    """Return a run whose only step is in the store, made with one more rank."""
    run = started(
        "launcher=local", "stage=sft", "tracking=none", "evaluation.before=false", "evaluation.after=false"
    )
    (step,) = run.plan.steps
    stored = run.store.paths.steps / f"{step.key}-other"
    write_json(stored / "artifact" / "weights.json", {})
    write_json(stored / "step.json", {"run_id": "earlier"})
    artifact = ArtifactInfo(kind="model", hash=hash_of_folder(stored / "artifact"))
    numerics = step.numerics | {"launcher.num_processes": 2}
    Status(state="done", artifact=artifact, numerics=numerics, variant="other").write(stored)
    return run


def test_a_run_reuses_a_step_with_other_numerics_and_says_so(
    made_elsewhere: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    code, summary = made_elsewhere.execute()
    assert code == ExitCode.DONE
    assert summary["steps"]["sft"]["other_numerics"] == "launcher.num_processes 2 there, 1 here"
    assert "its last digits may differ" in capsys.readouterr().err
    assert "other numerics" in RunPaths(made_elsewhere.folder).report.read_text()


def test_a_member_of_a_sweep_reuses_no_step_with_other_numerics(
    made_elsewhere: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed = []

    def execute(run: Run, step: PlanStep, folder: Path) -> Status:
        executed.append(step.name)
        return Status(state="done")

    monkeypatch.setattr(Run, "_execute", execute)
    plan = made_elsewhere.plan.model_copy(update={"is_compared": True})
    Run(plan, made_elsewhere.folder).execute()
    assert executed == ["sft"]


def test_the_variant_of_a_step_follows_from_what_it_really_read(started: Callable[..., Run]) -> None:
    run = started("pipeline=sft_grpo", "tracking=none")
    before = {step.name: run.plan.variant(step, run.folder) for step in run.plan.steps}
    sft = run.plan.step_named("sft")
    Status(state="done", variant="of another machine").write(run.paths_of(sft).folder)
    after = {step.name: run.plan.variant(step, run.folder) for step in run.plan.steps}
    changed = [name for name in before if after[name] != before[name]]
    assert changed == ["evaluate-post-sft", "rl", "evaluate-post-grpo"]


def test_a_finished_step_is_taken_where_the_run_has_an_unfinished_folder_of_its_own(
    made_elsewhere: Run,
) -> None:
    (step,) = made_elsewhere.plan.steps
    folder = made_elsewhere.paths_of(step).folder
    Status(state="interrupted", reason="Ctrl-C").write(folder)
    write_json(folder / "checkpoints" / "checkpoint-1" / "complete.json", {})
    code, summary = made_elsewhere.execute()
    assert code == ExitCode.DONE
    assert summary["steps"]["sft"]["reused_from"] == "earlier"
    assert not (folder / "checkpoints").exists()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("text", ["", '{"state": "do', '{"state": "walking"}', "null"])
def test_a_run_whose_status_is_damaged_runs_the_step_again(
    text: str, started: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started("stage=sft", "tracking=none", "evaluation.before=false", "evaluation.after=false")
    (step,) = run.plan.steps
    folder = run.paths_of(step).folder
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(text)
    write_json(folder / "artifact" / "model", "of the step that was killed")
    damaged = read_status(folder)
    assert damaged is not None and damaged.state == "damaged"
    artifacts = []

    def process(*_: Any) -> int:
        artifacts.append((folder / "artifact").exists())
        return 1

    monkeypatch.setattr(Run, "_run_processes", process)
    code, summary = run.execute()
    assert (code, summary["steps"]["sft"]["state"], artifacts) == (ExitCode.FAILED, "failed", [False])
    assert not list(folder.glob("reserve*"))


def test_a_step_that_is_left_out_is_not_executed_and_the_run_is_done(
    started: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = started(
        "pipeline=sft_grpo", "tracking=none", "evaluation.before=false", "evaluation.after=false"
    ).plan
    executed = []

    def execute(run: Run, step: PlanStep, folder: Path) -> Status:
        executed.append(step.name)
        folder.mkdir(parents=True)
        Status(state="done").write(folder)
        return Status(state="done")

    monkeypatch.setattr(Run, "_execute", execute)
    marked = [step.model_copy(update={"runs": step.name == "sft"}) for step in plan.steps]
    code, summary = Run(plan.model_copy(update={"steps": tuple(marked)}), Path("run")).execute()
    assert (code, executed, summary["state"]) == (ExitCode.DONE, ["sft"], "done")
    assert summary["steps"]["rl"]["state"] == "left_out"


def test_a_step_that_is_left_out_and_gone_from_the_store_ends_the_run(
    started: Callable[..., Run],
) -> None:
    plan = started(
        "pipeline=sft_grpo", "tracking=none", "evaluation.before=false", "evaluation.after=false"
    ).plan
    marked = [step.model_copy(update={"runs": step.name == "rl"}) for step in plan.steps]
    code, summary = Run(plan.model_copy(update={"steps": tuple(marked)}), Path("run")).execute()
    assert code == ExitCode.FAILED
    assert "step sft, which rl reads, was left out and is not finished any more" in summary["reason"]
