"""Settings of the health rules: metric, bound and action. conf/health/*.yaml."""

from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from r1exp.settings import Name, Settings

# warn: report. save: also save a checkpoint. adapt: also let the adaptive KL controller move beta. finish: also end training
# there; the model becomes the artifact, and the pipeline goes on. stop: also end the step, without an artifact.
Action = Literal["warn", "save", "adapt", "finish", "stop"]
_WITHOUT_EFFECT = frozenset({"warn", "save"})  # actions that change no result
_IF_SET: Any = {"default": None, "exclude_if": lambda value: value is None}


class Rule(Settings):
    """A condition on the mean of a metric over the last rows."""

    metric: Name  # as logged, e.g. kl
    above: float | None = None  # upper bound, in the metric's unit; broken if the mean is larger
    below: float | None = None  # lower bound, in the metric's unit; broken if the mean is smaller
    # Means over `window` rows one after the other without a new highest one; broken after so many.
    patience: PositiveInt | None = Field(**_IF_SET)
    relative: bool = False  # the bound is a multiple of the metric's mean at the start of the step
    start_at_least: float | None = None  # lower limit of that mean; only with relative
    # The bound is a multiple of this argument of the trainer (max_grad_norm); without effect where the argument is 0.
    argument: Name | None = Field(**_IF_SET)
    first_rows: bool | None = Field(**_IF_SET)  # true: only the first `window` rows of the step are checked
    rising: Name | None = Field(
        **_IF_SET
    )  # only while the mean of this metric is above its mean at the start
    falling: Name | None = Field(
        **_IF_SET
    )  # only while the mean of this metric is below its mean at the start
    beside: Name | None = None  # use only rows that also have this metric; reward: RL only
    window: PositiveInt  # logged rows to average, also for the mean at the start
    action: Action  # warn, save, adapt, finish or stop
    advice: Name  # one sentence that tells the user what to do

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if [self.above, self.below, self.patience].count(None) != 2:
            raise ValueError("a rule has one bound: give above, below or patience, and leave the others out")
        if self.start_at_least is not None and not self.relative:
            raise ValueError(
                "start_at_least has no effect on an absolute bound: set relative=true, or leave it out"
            )
        if self.relative and self.argument is not None:
            raise ValueError(
                f"a bound is a multiple of the start of the step or of trainer.{self.argument}, not of both: leave out "
                "relative or argument"
            )
        if self.patience is not None and (self.relative or self.argument is not None):
            raise ValueError(
                "patience counts means, and has no bound to multiply: leave out relative and argument"
            )
        return self

    @model_validator(mode="after")
    def _adapts_the_kl(self) -> Self:
        if self.action == "adapt" and (
            self.metric != "kl" or self.above is None or self.relative or self.argument
        ):
            raise ValueError(
                "action=adapt hands over to the KL controller with half of the bound as its target: it needs "
                "metric=kl and an absolute bound above=...; use another action for another rule"
            )
        return self

    @property
    def decides(self) -> bool:
        """Whether the rule can change the result of a step."""
        return self.action not in _WITHOUT_EFFECT

    @property
    def metrics(self) -> list[str]:
        """The metrics that the rule reads."""
        return [name for name in (self.metric, self.beside, self.rising, self.falling) if name is not None]


class HealthSettings(Settings):
    """The rules of a step, by name."""

    rules: dict[str, Rule]  # name -> rule

    def deciding(self) -> dict[str, Any]:
        """Return the rules that can change the result of a step: name -> what decides whether they do."""
        return {
            name: rule.model_dump(mode="json", exclude={"advice"})
            for name, rule in self.rules.items()
            if rule.decides
        }

    def deciding_metrics(self) -> set[str]:
        """Return the metrics that such rules read."""
        return {metric for rule in self.rules.values() if rule.decides for metric in rule.metrics}
