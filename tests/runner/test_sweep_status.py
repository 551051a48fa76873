"""States of the runs of a sweep, from their files and from a fake squeue."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.config.experiment import Experiment
from r1exp.errors import ExitCode, Interrupted, Refused
from r1exp.files import write_json, write_text
from r1exp.plan.run_plan import RunPlan, read_plan
from r1exp.plan.steps import planned_steps, run_plan
from r1exp.runner.run import Run
from r1exp.runner.store import StepStore
from r1exp.runner.sweep import _own_folder
from r1exp.runner.sweep_status import states_of
from r1exp.step.status import State, Status

SFT = ["stage=sft", "evaluation.before=false", "evaluation.after=false", "tracking=none"]


@pytest.fixture
def run(tmp_path: Path, compose_line: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a member of a sweep that has a plan and has not started."""
    monkeypatch.chdir(tmp_path)
    experiment = compose_line(*SFT, "seed=7")
    member = tmp_path / "sweep" / "0"
    run_plan(experiment, planned_steps(experiment)).write(member)
    return member


def squeue(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """Put a squeue that prints `answer` on the PATH."""
    program = folder / "bin" / "squeue"
    write_text(program, f"#!/bin/sh\nprintf '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def status(run: Path, state: State, reason: str | None = None) -> None:
    Status(state=state, reason=reason).write(run / "steps" / "01-sft")


@pytest.mark.parametrize(
    ("state", "answer", "expected"),
    [
        pytest.param(None, "5|PENDING|Priority", ("pending", "Priority"), id="in the queue"),
        pytest.param(
            "preempted", "5|PENDING|BeginTime", ("pending", "BeginTime; will continue: why"), id="requeued"
        ),
        pytest.param("running", "5|RUNNING|None", ("running", ""), id="running"),
        pytest.param("preempted", "5|RUNNING|None", ("running", ""), id="running again"),
        pytest.param("done", "5|COMPLETING|None", ("done", ""), id="done"),
        pytest.param("failed", "5|FAILED|NonZeroExitCode", ("failed", "why"), id="failed"),
        pytest.param("failed", "", ("failed", "why"), id="failed, and not listed by SLURM"),
        pytest.param(
            "running", "5|NODE_FAIL|None", ("vanished", "its job ended as NODE_FAIL"), id="node failure"
        ),
        pytest.param("running", "", ("vanished", "its job no longer exists"), id="not listed by SLURM"),
        pytest.param(
            None,
            "5|CANCELLED|None",
            ("canceled", "ended with scancel; `r1exp sweep retry RUN` starts it again"),
            id="canceled",
        ),
    ],
)
def test_the_state_of_a_run_follows_from_its_files_and_its_job(
    state: State | None, answer: str, expected: tuple[str, str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(run / "job.json", '{"ids": [3, 5]}')
    squeue(run.parent.parent, monkeypatch, answer)
    if state is not None:
        status(run, state, None if state in ("running", "done") else "why")
    (found,) = states_of(run.parent)
    reason = expected[1].replace("RUN", str(run))
    assert (found.state, found.reason, found.job, found.step) == (expected[0], reason, 5, "sft (1/1)")


def test_a_run_on_this_machine_is_running_while_its_step_is_leased(run: Path) -> None:
    status(run, "running")
    assert states_of(run)[0].state == "vanished"
    plan = read_plan(run)
    with StepStore(Path(plan.config.paths.store)).lease(plan.slot(plan.steps[0], run), on_wait=lambda: None):
        assert states_of(run)[0].state == "running"


def test_the_table_shows_progress_reasons_and_only_the_overrides_that_differ(
    run: Path, compose_line: Callable[..., Experiment], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = compose_line(*SFT, "seed=8")
    run_plan(experiment, planned_steps(experiment)).write(run.parent / "1")
    status(run, "failed", "the disk is full")
    write_text(run / "steps" / "01-sft" / "metrics.jsonl", '{"step": 20}\n')
    refused = {"member": "2", "overrides": ["seed=-1"], "exit_code": 2, "reason": "seed=-1: too small"}
    write_json(run.parent / "sweep.json", [refused])
    assert main(["sweep", "status", str(run.parent)]) == 0
    shown = capsys.readouterr().out
    assert shown == (
        "member  job  state     step       progress  overrides\n"
        "0       -    failed    sft (1/1)  20/300    seed=7\n"
        "    the disk is full\n"
        "1       -    vanished  sft (1/1)  0/300     seed=8\n"
        "    its process no longer exists\n"
        "2       -    refused   -          -         seed=-1\n"
        "    seed=-1: too small\n"
        "3 runs: 1 failed, 1 vanished, 1 refused\n"
        f"`r1exp sweep retry {run.parent}` restarts 2 of them\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "takes status DIR, retry DIR or report DIR", id="nothing"),
        pytest.param(["statis", "x"], "Did you mean `r1exp sweep status`?", id="misspelt"),
        pytest.param(["seed=1,2"], "r1exp -m overrides", id="overrides instead of an action"),
        pytest.param(["status"], "takes one folder", id="no folder"),
        pytest.param(["status", "nowhere"], "there is no such folder", id="no such folder"),
        pytest.param(
            ["retry", "."], "is neither a sweep nor a run. The newest sweeps: sweep", id="the parent folder"
        ),
    ],
)
def test_mistakes_are_refused_with_what_to_type(
    arguments: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(run.parent / "sweep.json", [])
    assert main(["sweep", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_plan_can_be_written_and_read(run: Path) -> None:
    plan = read_plan(run)
    assert RunPlan.model_validate_json(plan.model_dump_json(), strict=True) == plan
    assert plan.steps[0].trainer_args["max_steps"] == 300


def test_a_member_that_was_ended_while_it_waited_is_not_called_vanished(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first step is executed by another run, so that it has no status of its own."""

    def wait(*_: Any) -> None:
        raise Interrupted("ended by SIGTERM")

    monkeypatch.setattr(Run, "_step", wait)
    code, summary = Run(read_plan(run), run).execute()
    assert (code, summary["state"]) == (ExitCode.INTERRUPTED, "interrupted")
    (state,) = states_of(run.parent)
    assert (state.state, state.reason) == ("interrupted", "ended by SIGTERM")


REWARD = """
from typing import ClassVar, Literal
from r1exp.rewards.base import Reward
class Short(Reward):
    kind: Literal["my_package.rewards:Short"] = "my_package.rewards:Short"
    span: ClassVar[tuple[float, float]] = (0.0, 1.0)
    def score(self, problem, completion, context=None): return 1.0
"""


@pytest.fixture
def sweep_with_trouble(
    run: Path, compose_line: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return a sweep of a failed member, one with an empty status, one with a reward that is not installed, one without a whole plan."""
    sweep = run.parent
    write_text(Path("my_package/__init__.py"), "")
    write_text(Path("my_package/rewards.py"), REWARD)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    reward = "+rewards.mine={kind: 'my_package.rewards:Short', weight: 1.0}"
    for member, overrides in (("1", SFT), ("2", ["stage=rl", "tracking=none", reward])):
        experiment = compose_line(*overrides)
        run_plan(experiment, planned_steps(experiment)).write(sweep / member)
    shutil.rmtree("my_package")
    for name in ("my_package", "my_package.rewards"):
        del sys.modules[name]
    status(run, "failed", "why")
    write_text(sweep / "1" / "steps" / "01-sft" / "status.json", "")
    write_text(sweep / "3" / "plan.json", '{"name": ')
    write_text(sweep / "sweep.json", "[{")
    write_text(run / "summary.json", "")
    return sweep


def test_a_member_that_cannot_be_read_is_shown_with_the_reason_and_the_others_as_usual(
    sweep_with_trouble: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "status", str(sweep_with_trouble)]) == 0
    shown = capsys.readouterr().out
    states = {state.folder.name: (state.state, state.reason) for state in states_of(sweep_with_trouble)}
    assert [states[name][0] for name in "0123"] == ["failed", "damaged", "unknown", "unknown"]
    assert "status.json is empty; the same command runs the step again" in states["1"][1]
    assert "names the package 'my_package', which Python does not find" in states["2"][1]
    assert all(reason in shown for _, reason in states.values())
    assert "restarts 2 of them" in shown


def test_retry_restarts_the_members_that_can_be_read_and_says_why_not_the_others(
    sweep_with_trouble: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    restarted = []

    def execute(run: Run) -> tuple[ExitCode, dict[str, Any]]:
        restarted.append(run.folder.name)
        return ExitCode.DONE, {"state": "done"}

    monkeypatch.setattr(Run, "execute", execute)
    assert main(["sweep", "retry", str(sweep_with_trouble)]) == ExitCode.REFUSED
    assert restarted == ["0", "1"]
    assert "not restarted: " in capsys.readouterr().err


def test_a_member_whose_list_of_jobs_is_damaged_does_not_hide_the_others(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(run / "job.json", "")
    assert [state.state for state in states_of(run.parent)] == ["vanished"]
    assert "job.json is damaged" in capsys.readouterr().err


def test_two_sweeps_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    first = _own_folder(tmp_path / "sweep", is_typed=False)
    assert [first.name, _own_folder(tmp_path / "sweep", is_typed=False).name] == ["sweep", "sweep-2"]
    with pytest.raises(Refused, match="another sweep runs in this folder"):
        _own_folder(tmp_path / "sweep", is_typed=True)
