"""Settings of stage=sample. The work is in `r1exp.stage.sample_answers`."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveInt

from r1exp.settings import Probability
from r1exp.stage.base import GENERATION_READS, Stage, num_validation, smallest
from r1exp.stage.step_settings import StepSettings


class Sample(Stage):
    """Samples several answers to each training problem and scores them with the committee."""

    kind: Literal["sample"]
    samples: PositiveInt  # answers per problem
    num_problems: PositiveInt | None  # only the first problems; null: all
    min_pass_rate: Probability  # problems with a lower share of correct answers are left out of data.jsonl
    max_pass_rate: Probability  # problems with a higher share of correct answers are left out of data.jsonl
    # Problems without a correct answer that SFT can learn are left out of data.jsonl. In no key where it is false.
    only_solved: bool = Field(default=False, exclude_if=lambda value: not value)

    work = "r1exp.stage.sample_answers:sample_answers"
    makes = "dataset"
    fields = frozenset({"rewards", "temperature"})
    reads = GENERATION_READS | {"rewards", "temperature", "max_completion_length"}
    generates = True

    def num_validation(self, config: StepSettings) -> int:
        """Return how many problems no answers are sampled to: a later step that learns from them is evaluated on these."""
        return num_validation(config)

    def own_settings(self, config: StepSettings) -> dict[str, Any]:
        """Return the settings; in a debug run every problem is kept."""
        if config.debug.num_problems is None:
            return self.model_dump(mode="json")
        bounds = {"min_pass_rate": 0.0, "max_pass_rate": 1.0}
        return self.model_dump(mode="json", exclude={"only_solved"}) | bounds

    def describe(self, config: StepSettings, num_problems: int | None) -> str:
        """Return how many problems are asked, and how often."""
        number = smallest(self.num_problems, num_problems)
        return f"{'all' if number is None else f'{number:,}'} training problems, {self.samples} answers each"


def question_of(row: Mapping[str, Any]) -> Any:
    """Return the question of a row of samples.jsonl: a text, or the messages of a chat."""
    earlier = row.get("earlier")
    return [*earlier, {"role": "user", "content": row["prompt"]}] if earlier else row["prompt"]
