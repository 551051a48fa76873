"""Settings of stage=sample. The work is in `r1exp.stage.sample_answers`."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveInt

from r1exp.errors import Refused
from r1exp.rewards.language_consistency import Language
from r1exp.settings import Probability
from r1exp.stage.base import GENERATION_READS, Stage, num_validation, smallest
from r1exp.stage.step_settings import StepSettings

# Settings that are left out of the key of a step where they are not made, so that they change no other.
_CHOICES = frozenset(
    {
        "keep", "min_reward", "bounds", "distinct", "only_correct", "keep_unsolved", "num_rows", "language", "min_language_share",
        "max_paragraph", "allow_code",
    }
)  # fmt: skip


class Sample(Stage):
    """Samples several answers to each training problem and scores them with the committee."""

    kind: Literal["sample"]
    samples: PositiveInt  # answers per problem
    num_problems: PositiveInt | None  # only the first problems; null: all
    min_pass_rate: Probability  # problems with a lower share of correct answers are left out of data.jsonl
    max_pass_rate: Probability  # problems with a higher share of correct answers are left out of data.jsonl

    keep: PositiveInt = 1  # answers per problem in data.jsonl, at most; the best ones
    min_reward: float | None = None  # an answer with a lower reward is left out; null: no bound
    bounds: dict[str, float] = Field(
        default_factory=dict
    )  # member of the committee -> least score of an answer
    distinct: Literal["text", "answer"] = (
        "text"  # answers that count as one: the same text, or the same answer
    )
    only_correct: bool = True  # whether an answer must be correct, where there is a gold answer
    keep_unsolved: bool = (
        False  # whether a problem without a kept answer stays in data.jsonl, without a solution
    )
    num_rows: PositiveInt | None = None  # rows of data.jsonl, balanced over the problems; null: all
    language: Language | None = (
        None  # of answers to problems whose column `language` names none; null: not known
    )
    min_language_share: Probability | None = None  # least share of words in the language; null: not looked at
    max_paragraph: PositiveInt | None = (
        None  # words (characters in scripts without spaces) of a paragraph; null: no bound
    )
    allow_code: bool = True  # whether answers may hold fenced blocks of code

    work = "r1exp.stage.sample_answers:sample_answers"
    makes = "dataset"
    fields = frozenset({"rewards", "temperature"})
    reads = GENERATION_READS | {"rewards", "temperature", "max_completion_length"}
    generates = True

    def num_validation(self, config: StepSettings) -> int:
        """Return how many problems no answers are sampled to: a later step that learns from them is evaluated on these."""
        return num_validation(config)

    def own_settings(self, config: StepSettings) -> dict[str, Any]:
        """Return the settings without choices that are not made; in a debug run every problem is kept."""
        chosen = self if config.debug.num_problems is None else self.in_debug_run()
        return {
            name: value
            for name, value in chosen.model_dump(mode="json").items()
            if name not in _CHOICES
            or value != type(self).model_fields[name].get_default(call_default_factory=True)
        }

    def in_debug_run(self) -> "Sample":
        """Return the settings of a debug run, which keep a row of each problem.

        A policy after two optimizer steps solves no problem, but a debug run must still execute every step.
        """
        bounds: dict[str, Any] = {
            "min_pass_rate": 0.0,
            "max_pass_rate": 1.0,
            "min_reward": None,
            "bounds": {},
        }
        filters = {"min_language_share": None, "max_paragraph": None, "allow_code": True}
        return self.model_copy(update=bounds | filters | {"only_correct": False})

    def check_data(self, config: StepSettings, num_problems: int | None) -> int | None:
        """Return the number of problems.

        Raises:
            Refused: `bounds` names no member of the committee.
        """
        self.refuse_unready(config)
        return num_problems

    def refuse_unready(self, config: StepSettings) -> None:
        """Raise Refused if `bounds` names no member of the committee; where an earlier step makes the data, only this is asked."""
        unknown = sorted(set(self.bounds) - set(config.rewards or {}))
        if unknown:
            raise Refused(
                f"stage.bounds.{unknown[0]}: the committee has no such member; it has {', '.join(config.rewards or {})}"
            )

    def describe(self, config: StepSettings, num_problems: int | None) -> str:
        """Return how many problems are asked, and how often."""
        number = smallest(self.num_problems, num_problems)
        return f"{'all' if number is None else f'{number:,}'} training problems, {self.samples} answers each"


def question_of(row: Mapping[str, Any]) -> Any:
    """Return the question of a row of samples.jsonl: a text, or the messages of a chat."""
    earlier = row.get("earlier")
    return [*earlier, {"role": "user", "content": row["prompt"]}] if earlier else row["prompt"]
