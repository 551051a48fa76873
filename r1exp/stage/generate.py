"""Settings of stage=generate. The work is in `r1exp.stage.generate_answers`."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal, Self

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from r1exp.errors import Refused
from r1exp.rollout.base import Share
from r1exp.stage.base import GENERATION_READS, Stage, num_validation, smallest
from r1exp.stage.step_settings import StepSettings

_PER = 1_000_000  # tokens that a price is for
_BYTES_PER_TOKEN = 4  # of English text, about
_NUM_MEASURED = 1000  # prompts whose length is taken for that of all
_OUTSIDE_KEY = {"price_input", "price_output", "budget_tokens", "budget_money"}


class Generate(Stage):
    """Labels the questions of a data set with the answers of a teacher."""

    kind: Literal["generate"]
    samples: PositiveInt  # answers per question
    num_problems: PositiveInt | None  # only the first questions; null: all
    top_p: Share  # nucleus sampling; 1: off
    only_finished: bool  # an answer that was cut at the length limit is not kept
    only_right: bool  # of a question with a gold answer, an answer that is not right is not kept
    min_reward: (
        float | None
    )  # an answer whose reward, the committee's weighted total, is lower is not kept; null: all
    price_input: NonNegativeFloat | None  # money per million tokens of prompts; null: not known
    price_output: NonNegativeFloat | None  # money per million tokens of completions; null: not known
    budget_tokens: (
        PositiveInt | None
    )  # tokens of prompts and completions, after which nothing more is asked; null: no limit
    budget_money: PositiveFloat | None  # in the money of the prices; null: no limit

    work = "r1exp.stage.generate_answers:generate_answers"
    makes = "dataset"
    fields = frozenset({"temperature"})
    may_read = frozenset({"rewards"})
    reads = GENERATION_READS | {"rewards", "temperature", "max_completion_length"}
    generates = True

    @model_validator(mode="after")
    def _money_can_be_counted(self) -> Self:
        if (self.price_input is None) != (self.price_output is None):
            missing = "price_input" if self.price_input is None else "price_output"
            raise ValueError(
                f"the cost needs both prices: give stage.{missing} too, in money per million tokens (0 is a price)"
            )
        if self.budget_money is not None and self.price_input is None:
            raise ValueError(
                f"stage.budget_money={self.budget_money:g} cannot be counted without prices: give stage.price_input and "
                "stage.price_output (money per million tokens), or a limit of tokens, stage.budget_tokens=..."
            )
        if self.budget_money is not None and not (self.price_input or self.price_output):
            raise ValueError(
                f"stage.budget_money={self.budget_money:g} is never spent at prices of 0; leave it out, or use "
                "stage.budget_tokens"
            )
        return self

    def without_bounds(self) -> Self:
        """Return the stage with every answer kept."""
        return self.model_copy(update={"only_finished": False, "only_right": False, "min_reward": None})

    def cost(self, num_prompt_tokens: float, num_tokens: float) -> float | None:
        """Return the price of tokens of prompts and of completions; None without prices."""
        if self.price_input is None or self.price_output is None:
            return None
        return (num_prompt_tokens * self.price_input + num_tokens * self.price_output) / _PER

    def num_validation(self, config: StepSettings) -> int:
        """Return how many problems are not asked: a later step that learns from the answers is evaluated on these."""
        return num_validation(config)

    def own_settings(self, config: StepSettings) -> dict[str, Any]:
        """Return the settings that decide the answers; a budget only decides when they are asked.

        In a debug run every answer is kept.
        """
        stage = self if config.debug.num_problems is None else self.without_bounds()
        return stage.model_dump(mode="json", exclude=_OUTSIDE_KEY)

    def check_data(self, config: StepSettings, num_problems: int | None) -> int | None:
        """Return how many questions there are. Raises as `check_bound`."""
        self.check_bound(config)
        return num_problems

    def refuse_unready(self, config: StepSettings) -> None:
        """Raise as `check_bound`."""
        self.check_bound(config)

    def check_bound(self, config: StepSettings) -> None:
        """Raise Refused for a bound on the rewards that no answer can meet, or where there are none."""
        if self.min_reward is None:
            return
        if config.rewards is None:
            raise Refused(
                f"stage.min_reward={self.min_reward:g} is a bound on the rewards, and there are none; choose some, for example "
                "rewards=graded, or leave the bound out"
            )
        most = sum(max(reward.weight * bound for bound in reward.span) for reward in config.rewards.values())
        if self.min_reward > most:
            raise Refused(
                f"stage.min_reward={self.min_reward:g} is more than any answer can get: the weighted rewards add up to "
                f"{most:g} at most; lower it"
            )

    def describe(self, config: StepSettings, num_problems: int | None) -> str:
        """Return how many questions are asked, how often, and what that costs at most."""
        number = smallest(self.num_problems, num_problems)
        text = f"{'all' if number is None else f'{number:,}'} questions, {self.samples} {'answer' if self.samples == 1 else 'answers'} each"
        if number is None or self.price_input is None:
            return text
        num_answers = number * self.samples
        num_tokens = num_answers * config.max_completion_length
        # The questions of an earlier step, or of the hub, may not be here yet.
        num_prompt_tokens = 0.0 if num_problems is None else num_answers * self._mean_prompt_tokens(config)
        cost = self.cost(num_prompt_tokens, num_tokens)
        return text if cost is None else f"{text}, costs at most about {cost:,.2f}"

    def details(self, config: StepSettings) -> Iterator[str]:
        """Yield what is kept, and what ends the step."""
        bounds = ["finished"] if self.only_finished else []
        bounds += ["right where there is a gold answer"] if self.only_right else []
        bounds += [] if self.min_reward is None else [f"a reward of at least {self.min_reward:g}"]
        yield f"answers kept: {', '.join(bounds) or 'all'}"
        yield f"an answer has at most {config.max_completion_length:,} tokens (max_completion_length)"
        if self.price_input is not None:
            yield f"prices per million tokens: input {self.price_input:g}, output {self.price_output:g}"
        for name in ("budget_tokens", "budget_money"):
            if (budget := getattr(self, name)) is not None:
                yield f"ends when stage.{name}={budget:,} are spent; the same command with more goes on from there"

    def _mean_prompt_tokens(self, config: StepSettings) -> float:
        """Return about how many tokens a prompt has, from the first ones."""
        sizes = [
            len(config.prompt.system.encode()) + len(problem.text.encode())
            for problem in islice(self.problems(config), _NUM_MEASURED)
        ]
        return sum(sizes) / len(sizes) / _BYTES_PER_TOKEN if sizes else 0.0
