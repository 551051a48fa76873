"""Relates the evaluations of a run to the models they measured: which pairs to compare, and which one is the objective.

An evaluation is compared with that of the nearest ancestor of its model on the same problems, so that two steps that
start from the base model are each compared with the base model, and not with each other. The objective is the
sampled accuracy of the model that the focus step made (the greedy one if nothing was sampled), in a run that came to
its end. Torch-free.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1exp.files import read_json
from r1exp.plan.run_plan import PlanStep, RunPlan
from r1exp.plan.steps import BASE


@dataclass(frozen=True)
class Measurement:
    """The scores of one model."""

    label: str  # part of the accuracy's name
    model: str  # the step that made the model, or `base`
    content: dict[str, Any]  # of scores.json

    @property
    def suites(self) -> dict[str, dict[str, Any]]:
        """Suite -> its metrics, problem_ids and outcomes, in order."""
        return dict(self.content.get("suites", {}))

    @property
    def summary(self) -> dict[str, dict[str, Any]]:
        """Decoding -> accuracy in the first suite, with its interval."""
        return dict(self.content.get("summary", {}))


@dataclass(frozen=True)
class Objective:
    """What a sweeper maximizes, or why there is none."""

    value: float | None
    measured: str = ""  # label and decoding, e.g. `post_grpo sampled`
    reason: str = ""  # why there is no value


def measurement_of(step: PlanStep, folder: Path) -> Measurement | None:
    """Return what a finished step measured, or None. `folder` is the run directory."""
    path = step.paths(folder).results.scores
    if not path.exists():
        return None
    model = step.model_from if _makes(step) == "scores" else step.name
    return Measurement(step.label, model, read_json(path))


def pairs(plan: RunPlan, measured: Sequence[Measurement]) -> Iterator[tuple[Measurement, Measurement]]:
    """Yield (before, after) for each measurement of a model that has a measured ancestor."""
    for position, after in enumerate(measured):
        before = _measured_ancestor(plan, after, measured[:position])
        if before is not None:
            yield before, after


def _measured_ancestor(
    plan: RunPlan, after: Measurement, earlier: Sequence[Measurement]
) -> Measurement | None:
    model = after.model
    while model != BASE:
        model = plan.step_named(model).model_from
        for before in reversed(earlier):
            if before.model == model and _share_problems(before, after):
                return before
    return None


def _share_problems(before: Measurement, after: Measurement) -> bool:
    """Whether two measurements have a suite with the same problems in common."""
    return any(
        name in before.suites and before.suites[name]["problem_ids"] == suite["problem_ids"]
        for name, suite in after.suites.items()
    )


def objective_of(plan: RunPlan, state: str, measured: Sequence[Measurement]) -> Objective:
    """Return the objective of a run.

    Args:
        plan: Plan of the run.
        state: State of the run.
        measured: What its finished steps measured, in order.
    """
    if state != "done":
        return Objective(None, reason=f"the run has not come to its end, it is {state}")
    focus = plan.step_named(plan.focus)
    makes = _makes(focus)
    model = focus.model_from if makes == "scores" else focus.name
    found = [measurement for measurement in measured if measurement.model == model]
    if makes == "scores":
        found = [measurement for measurement in found if measurement.label == focus.label]
    for mode in ("sampled", "greedy"):
        if found and mode in found[-1].summary:
            return Objective(float(found[-1].summary[mode]["value"]), f"{found[-1].label} {mode}")
    if makes == "dataset":
        return Objective(None, reason=f"the focus step {focus.name} makes a data set, which has no accuracy")
    return Objective(None, reason=f"no step measured the model of the focus step {focus.name}")


def _makes(step: PlanStep) -> str:
    assert step.config.stage is not None
    return step.config.stage.makes
