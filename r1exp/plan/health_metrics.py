"""Refuses a health rule on a metric that no step of a run logs: it would never act."""

from collections.abc import Sequence

from r1exp.config.experiment import ComposedStep
from r1exp.errors import Refused
from r1exp.health.known import unknown_metrics

_OWN = "r1exp."  # prefix of the import paths of trainers whose metrics are known


def refuse_unknown_metrics(steps: Sequence[ComposedStep]) -> None:
    """Raise Refused if a rule of a step is about a metric that no step logs.

    A trainer of the user's own may log anything: the step itself says at its end which metrics never came.
    """
    trainers = [
        path
        for step in steps
        for path in (step.stage.work, "" if step.config.algorithm is None else step.config.algorithm.trainer)
        if path
    ]
    if not all(path.startswith(_OWN) for path in trainers):
        return
    rewards = {name for step in steps for name in step.config.rewards or {}}
    for step in steps:
        for setting, metric, close in unknown_metrics(step.config.health, rewards):
            hint = f"did you mean {close}?" if close else "the metrics.jsonl of a finished step lists them"
            raise Refused(f"{setting}={metric}: no step of this run logs such a metric; {hint}")
