"""Which evaluations are compared, and which one is the objective of a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.errors import Refused
from r1exp.plan.run_plan import RunPlan
from r1exp.plan.steps import planned_steps, run_plan
from r1exp.report.measurements import Measurement, objective_of, pairs

BRANCHES = """\
# @package pipeline
focus: second
steps:
  first:  {use: {stage: sft}, model_from: base}
  second: {use: {stage: sft}, model_from: base}
"""
EVALUATE_LAST = """\
# @package pipeline
focus: sft
steps:
  sft:      {use: {stage: sft}}
  post_sft: {use: {stage: evaluate, dataset: arithmetic}, model_from: base}
"""


@pytest.fixture
def plan_of(tmp_path: Path) -> Iterator[Any]:
    """Return a function that plans a command line, with the pipelines `branches` and `clash`."""
    folder = tmp_path / "pipeline"
    folder.mkdir()
    (folder / "branches.yaml").write_text(BRANCHES)
    (folder / "clash.yaml").write_text(EVALUATE_LAST)

    def plan(*overrides: str) -> RunPlan:
        experiment = experiment_from(["tracking=none", *overrides])
        return run_plan(experiment, planned_steps(experiment))

    with session([tmp_path]):
        yield plan


def measured(plan: RunPlan, *values: float, problems: str = "abc") -> list[Measurement]:
    """Return the measurements of a plan's evaluations, with the given sampled accuracies."""
    steps = [step for step in plan.steps if step.kind == "evaluate"]
    return [
        Measurement(
            step.label,
            step.model_from,
            {
                "summary": {"sampled": {"value": value}},
                "suites": {"test": {"problem_ids": list(problems)}},
            },
        )
        for step, value in zip(steps, values, strict=True)
    ]


def labels(plan: RunPlan, found: list[Measurement]) -> list[str]:
    return [f"{after.label} - {before.label}" for before, after in pairs(plan, found)]


def test_each_step_of_a_chain_is_compared_with_the_one_before(plan_of: Any) -> None:
    plan = plan_of("pipeline=sft_grpo")
    found = measured(plan, 0.1, 0.2, 0.3)
    assert labels(plan, found) == ["post_sft - pre_sft", "post_grpo - post_sft"]


def test_two_branches_are_each_compared_with_their_common_start(plan_of: Any) -> None:
    plan = plan_of("pipeline=branches")
    found = measured(plan, 0.1, 0.2, 0.3)
    assert labels(plan, found) == ["post_first - pre_first", "post_second - pre_first"]


def test_an_ancestor_measured_on_other_problems_is_passed_over(plan_of: Any) -> None:
    plan = plan_of("pipeline=sft_grpo")
    before, middle, after = measured(plan, 0.1, 0.2, 0.3)
    middle.content["suites"]["test"]["problem_ids"] = ["other"]
    assert labels(plan, [before, middle, after]) == ["post_grpo - pre_sft"]


def test_the_objective_is_the_focus_steps_accuracy(plan_of: Any) -> None:
    plan = plan_of("pipeline=branches", "pipeline.focus=first")
    objective = objective_of(plan, "done", measured(plan, 0.1, 0.2, 0.3))
    assert (objective.value, objective.measured) == (0.2, "post_first sampled")


@pytest.mark.parametrize("state", ["stopped", "failed", "interrupted", "preempted", "planned"])
def test_a_run_that_did_not_come_to_its_end_has_no_objective(plan_of: Any, state: str) -> None:
    plan = plan_of("pipeline=sft_grpo")
    objective = objective_of(plan, state, measured(plan, 0.1, 0.2, 0.3)[:1])
    assert objective.value is None
    assert state in objective.reason


def test_a_run_whose_focus_was_not_measured_has_no_objective(plan_of: Any) -> None:
    plan = plan_of("pipeline=sft_grpo", "evaluation.after=false")
    (before,) = measured(plan, 0.1)
    objective = objective_of(plan, "done", [before])
    assert objective.value is None
    assert "no step measured the model of the focus step rl" in objective.reason


def test_an_evaluation_that_is_the_focus_has_its_own_accuracy(plan_of: Any) -> None:
    plan = plan_of("stage=evaluate")
    objective = objective_of(plan, "done", measured(plan, 0.4))
    assert objective.value == 0.4


def test_two_steps_that_would_write_one_accuracy_are_refused(plan_of: Any) -> None:
    with pytest.raises(Refused, match="two steps would be reported as 'post_sft'"):
        plan_of("pipeline=clash")
