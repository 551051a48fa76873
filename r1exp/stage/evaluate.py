"""Settings of stage=evaluate. The work is in `r1exp.stage.measure`."""

from typing import TYPE_CHECKING, Literal

from r1exp.stage.base import Stage, smallest

if TYPE_CHECKING:
    from r1exp.stage.config import StepConfig


class Evaluate(Stage):
    """Evaluates a model on held-out problems, as set by `evaluation`."""

    kind: Literal["evaluate"]

    work = "r1exp.stage.measure:measure"
    makes = "scores"
    generates = True
    split = "test"

    def longest_completion(self, config: "StepConfig") -> tuple[str, int]:
        """Return the setting that limits the completions of an evaluation, and its value in tokens."""
        return "evaluation.max_tokens", config.evaluation.max_tokens

    def describe(self, config: "StepConfig", num_problems: int | None) -> str:
        """Return the number of problems and of completions."""
        number = smallest(config.evaluation.num_problems, config.debug.num_problems, num_problems)
        problems = "all (counted after the download)" if number is None else str(number)
        greedy = " and 1 greedy" if config.evaluation.greedy else ""
        return f"{problems} held-out problems, {config.evaluation.samples} sampled{greedy} completion(s) each"
