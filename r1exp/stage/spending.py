"""Counts the tokens and the cost of answers as they come, and ends a step whose budget is spent."""

import threading
from collections.abc import Collection

from r1exp.errors import StepFailed
from r1exp.records import Completion
from r1exp.stage.generate import Generate
from r1exp.step.progress import ProgressWriter


class BudgetSpent(StepFailed):
    """The budget of a step is spent before its last answer; what was answered is kept."""


class Spending:
    """What the answers of one rank cost. Usable from several threads at once.

    A budget is divided equally among the ranks. When it is spent nothing more is asked; the requests under way are still
    answered, kept and counted, so that it is exceeded by as many answers as are asked at once, at most.

    Args:
        stage: Has the prices and the budget.
    """

    def __init__(self, stage: Generate) -> None:
        self._stage = stage
        self._progress: ProgressWriter | None = None
        self._num_answers, self._num_ranks = 0, 1
        self._lock = threading.Lock()
        self.num_answered = 0
        self.num_prompt_tokens = 0
        self.num_tokens = 0

    def begin(self, progress: ProgressWriter | None, num_answers: int, num_ranks: int) -> None:
        """Receive where progress is shown, how many answers this rank will have, and how many ranks share the budget."""
        self._progress, self._num_answers, self._num_ranks = progress, num_answers, num_ranks

    def add(self, completions: Collection[Completion]) -> None:
        """Count completions.

        Raises:
            BudgetSpent: nothing more may be asked.
            StepFailed: the tokens of the prompts are needed and not known.
        """
        with self._lock:
            for completion in completions:
                self.num_answered += 1
                self.num_tokens += completion.num_tokens
                self.num_prompt_tokens += self._prompt_tokens(completion)
            if self._progress is not None:
                self._progress.note(self.text())
            self._check()

    @property
    def cost(self) -> float | None:
        """The cost so far; None without prices."""
        return self._stage.cost(self.num_prompt_tokens, self.num_tokens)

    def facts(self) -> dict[str, float | None]:
        """Return the counts and the prices of this rank's answers."""
        stage = self._stage
        return {
            "num_answers": self.num_answered,
            "num_prompt_tokens": self.num_prompt_tokens,
            "num_tokens": self.num_tokens,
            "price_input": stage.price_input,
            "price_output": stage.price_output,
            "cost": self.cost,
        }

    def text(self) -> str:
        """Return the tokens so far and their cost, for a person."""
        tokens = f"{self.num_prompt_tokens + self.num_tokens:,} tokens"
        return tokens if self.cost is None else f"{tokens}, cost {self.cost:,.4g}"

    def _prompt_tokens(self, completion: Completion) -> int:
        if completion.num_prompt_tokens is not None:
            return completion.num_prompt_tokens
        if self._stage.budget_tokens is None and self._stage.price_input is None:
            return 0
        raise StepFailed(
            "the endpoint does not say how many tokens a prompt has (usage.prompt_tokens), so neither cost nor budget can be "
            "counted; use an endpoint that does, or leave out stage.price_*, stage.budget_tokens and stage.budget_money"
        )

    def _check(self) -> None:
        if self.num_answered >= self._num_answers:
            return
        spent = {"budget_tokens": self.num_prompt_tokens + self.num_tokens, "budget_money": self.cost}
        for name, value in spent.items():
            budget = getattr(self._stage, name)
            if budget is not None and value is not None and value >= budget / self._num_ranks:
                ranks = "" if self._num_ranks == 1 else f" (1/{self._num_ranks} of it for each process)"
                raise BudgetSpent(
                    f"the budget is spent: {self.text()} for {self.num_answered:,} of {self._num_answers:,} answers, and "
                    f"stage.{name}={budget:,}{ranks}; the answers are kept: type the same command with a larger "
                    f"stage.{name}, and it goes on from here"
                )
