"""Which member starts next: a step that several have in common is executed once, and nobody waits in another's place."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from r1exp.config.experiment import Experiment
from r1exp.plan.run_plan import PlanStep
from r1exp.plan.steps import planned_steps, run_plan
from r1exp.runner.run import Run, WouldWait
from r1exp.runner.side_by_side import Machine, left
from r1exp.runner.store import StepStore
from r1exp.step.status import Status

SHORT = [
    "stage=sft",
    "launcher=local",
    "tracking=none",
    "evaluation.before=false",
    "evaluation.after=false",
    "debug=fast",
]


@pytest.mark.parametrize(
    ("parallel", "per_device", "expected"),
    [
        pytest.param(2, 1, ["0,1", "2,3"], id="equal parts"),
        pytest.param(4, 1, ["0", "1", "2", "3"], id="one each"),
        pytest.param(8, 2, ["0", "1", "2", "3", "0", "1", "2", "3"], id="two on each"),
        pytest.param(3, 2, ["0,1", "2,3", "0,1"], id="three on two halves"),
    ],
)
def test_gpus_are_dealt_out(parallel: int, per_device: int, expected: list[str]) -> None:
    machine = Machine(parallel, ("0", "1", "2", "3"), per_device)
    found = [machine.environment(share)["CUDA_VISIBLE_DEVICES"] for share in range(parallel)]
    assert found == expected
    assert Machine(parallel).environment(0) == {}


def test_what_is_left_of_a_member_is_neither_in_its_folder_nor_in_the_store(
    tmp_path: Path, compose_line: Callable[..., Experiment]
) -> None:
    steps = planned_steps(compose_line("stage=sft"))
    store, run = tmp_path / "store", tmp_path / "0"

    def names() -> list[str]:
        return [step.name for step in left(run, steps, store)]

    assert names() == ["evaluate-pre-sft", "sft", "evaluate-post-sft"]
    (store / "steps" / steps[0].slot).mkdir(parents=True)
    Status(state="failed", reason="why").write(steps[1].paths(run).folder)
    Status(state="done").write(steps[2].paths(run).folder)
    assert names() == ["sft"]


def test_a_member_does_not_wait_for_a_step_that_another_process_executes(
    tmp_path: Path, compose_line: Callable[..., Experiment], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = compose_line(*SHORT, f"paths.store={tmp_path / 'store'}")
    steps: tuple[PlanStep, ...] = planned_steps(experiment)
    plan = run_plan(experiment, planned_steps(experiment), True)
    plan.write(tmp_path / "0")
    with StepStore(tmp_path / "store").lease(steps[0].slot, lambda: None), pytest.raises(WouldWait):
        Run(plan, tmp_path / "0", waits=False).execute()
    assert "waiting for another run that executes this step" in capsys.readouterr().err
    assert not (tmp_path / "0" / "summary.json").exists()


@pytest.mark.slow
def test_a_member_whose_step_is_executed_elsewhere_starts_when_that_has_ended(
    tmp_path: Path, compose_line: Callable[..., Experiment]
) -> None:
    """With two places and three members, the other two run meanwhile."""
    line = [*SHORT, "hydra.sweep.dir=sweep", "paths.store=store", "sweep.parallel=2", "seed=1,2,3"]
    (step,) = planned_steps(compose_line(*SHORT, "seed=1"))
    leases = tmp_path / "store" / "leases"
    leases.mkdir(parents=True)
    lock = FileLock(leases / f"{step.slot}.lock")
    lock.acquire()
    with subprocess.Popen(
        [sys.executable, "-m", "r1exp", "-m", *line],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            rows = tmp_path / "sweep" / "sweep-rows.jsonl"
            until = time.monotonic() + 300
            while not (rows.exists() and rows.read_text().count('"member"') >= 2):
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.2)
            assert not (tmp_path / "sweep" / "0").exists()
        finally:
            lock.release()
        assert process.stderr is not None
        errors = process.stderr.read()
        assert process.wait() == 0, errors
    table = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [(row["member"], row["state"]) for row in table] == [("0", "done"), ("1", "done"), ("2", "done")]
