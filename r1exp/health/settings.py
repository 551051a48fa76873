"""Settings of the health rules: metric, bound and action. conf/health/*.yaml."""

from typing import Any, Literal, Self

from pydantic import PositiveInt, model_validator

from r1exp.settings import Name, Settings

Action = Literal["warn", "save", "stop"]


class Rule(Settings):
    """A one-sided bound on the mean of a metric over the last rows."""

    metric: Name  # as logged, e.g. kl
    above: float | None = None  # upper bound, in the metric's unit; broken if the mean is larger
    below: float | None = None  # lower bound, in the metric's unit; broken if the mean is smaller
    relative: bool = False  # the bound is a multiple of the metric's mean at the start of the step
    start_at_least: float | None = None  # lower limit of that mean; only with relative
    beside: Name | None = None  # use only rows that also have this metric; reward: RL only
    window: PositiveInt  # logged rows to average, also for the mean at the start
    action: Action  # warn: report; save: also save a checkpoint; stop: also end the step
    advice: Name  # one sentence that tells the user what to do

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("a rule has one bound: give above or below, and leave the other out")
        if self.start_at_least is not None and not self.relative:
            raise ValueError(
                "start_at_least has no effect on an absolute bound: set relative=true, or leave it out"
            )
        return self


class HealthSettings(Settings):
    """The rules of a step, by name."""

    rules: dict[str, Rule]  # name -> rule

    def stopping(self) -> dict[str, Any]:
        """Return the rules that can stop a step: name -> what decides whether they do."""
        rules = {name: rule for name, rule in self.rules.items() if rule.action == "stop"}
        return {name: rule.model_dump(mode="json", exclude={"advice"}) for name, rule in rules.items()}
