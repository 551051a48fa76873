"""Settings of stage=evaluate. The work is in `r1exp.stage.measure`."""

from typing import Any, Literal

from r1exp.rewards.advice import evaluating_member
from r1exp.stage.base import GENERATION_READS, Stage, smallest
from r1exp.stage.step_settings import StepSettings


class Evaluate(Stage):
    """Evaluates a model on held-out problems, as set by `evaluation`."""

    kind: Literal["evaluate"]

    work = "r1exp.stage.measure:measure"
    makes = "scores"
    reads = GENERATION_READS
    may_read = frozenset({"rewards"})  # the judge may be a member of the rewards
    generates = True
    split = "test"

    def longest_completion(self, config: StepSettings) -> tuple[str, int]:
        """Return the limit of an evaluation's completions."""
        return "evaluation.max_tokens", config.evaluation.max_tokens

    def own_settings(self, config: StepSettings) -> dict[str, Any]:
        """Return how problems are answered, and how many; not when a pipeline evaluates."""
        evaluation = config.evaluation.model_dump(mode="json", exclude={"before": True, "after": True})
        member = evaluating_member(config.rewards) if config.evaluation.judge == "reward" else None
        rewards = config.model_dump(mode="json", include={"rewards"})["rewards"]
        judge = {} if member is None else {"judged_by": rewards[member]}
        return self.model_dump(mode="json") | {"evaluation": evaluation} | judge

    def describe(self, config: StepSettings, num_problems: int | None) -> str:
        """Return how many problems are measured, and how."""
        number = smallest(config.evaluation.num_problems, num_problems)
        problems = "all" if number is None else f"{number:,}"
        sampled = [f"{config.evaluation.samples} sampled"] if config.evaluation.samples else []
        greedy = ["1 greedy"] if config.evaluation.greedy else []
        return f"{problems} test problems, {' + '.join([*sampled, *greedy])} each"
