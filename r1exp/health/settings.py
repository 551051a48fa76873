"""Which numbers are watched, and what is done when one leaves its range. conf/health/*.yaml."""

from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from r1exp.settings import Name, Settings

Action = Literal["warn", "save", "stop"]


class Rule(Settings):
    """A one-sided bound on the mean of a metric over the last rows."""

    metric: Name  # as logged, e.g. kl
    above: float | None = None  # broken when the mean is larger
    below: float | None = None  # broken when the mean is smaller
    relative: bool = False  # the bound is a multiple of the metric's mean at the start of the step
    start_at_least: float | None = None  # a smaller start counts as this; only where the bound is relative
    beside: Name | None = None  # only rows that also carry this metric count, e.g. reward: no SFT
    window: PositiveInt  # logged rows that are averaged; also how many make up the start
    action: Action  # warn: say so; save: and save a checkpoint; stop: and end the step
    advice: Name  # what a person should do, in a sentence

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("a rule has one bound: give above or below, and leave the other out")
        if self.start_at_least is not None and not self.relative:
            raise ValueError(
                "start_at_least does nothing to an absolute bound: set relative=true, or leave it out"
            )
        return self


class HealthSettings(Settings):
    """The rules of a step, by name."""

    rules: dict[str, Rule]
