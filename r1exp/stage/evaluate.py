"""Settings of stage=evaluate. The work is in `r1exp.stage.measure`."""

from typing import Literal

from r1exp.stage.base import Stage, smallest
from r1exp.stage.step_settings import StepSettings


class Evaluate(Stage):
    """Evaluates a model on held-out problems, as set by `evaluation`."""

    kind: Literal["evaluate"]

    work = "r1exp.stage.measure:measure"
    makes = "scores"
    generates = True
    split = "test"

    def longest_completion(self, config: StepSettings) -> tuple[str, int]:
        """Return the limit of an evaluation's completions."""
        return "evaluation.max_tokens", config.evaluation.max_tokens

    def describe(self, config: StepSettings, num_problems: int | None) -> str:
        """Return how many problems are measured, and how."""
        number = smallest(config.evaluation.num_problems, num_problems)
        problems = "all (counted after the download)" if number is None else str(number)
        greedy = " and 1 greedy" if config.evaluation.greedy else ""
        return f"{problems} held-out problems, {config.evaluation.samples} sampled{greedy} completion(s) each"
