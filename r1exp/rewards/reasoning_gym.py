"""Scores with the scorer of the problem's task in reasoning-gym.

    score = the library's score of the answer, 0 to 1; with `partial: false` 1 if that is 1, else 0

Many tasks accept every right answer, not only the one in the data (`countdown`, `n_queens`, `sudoku`); many give a
little for a wrong answer in the right form. The problems come from `dataset=reasoning_gym`.

Source: Reasoning Gym (arXiv:2505.24760), `score_answer` of each task.
"""

import json
from typing import ClassVar, Literal

from r1exp.dataset.reasoning_gym import gym_entry
from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context, Score, SlowReward, Span

NOT_OF_GYM = Abstain("not a problem of reasoning_gym")


class ReasoningGym(SlowReward):
    """The score of the task's own scorer."""

    kind: Literal["reasoning_gym"] = "reasoning_gym"
    style: StyleName  # the prompt's; decides where the answer is read
    partial: bool = True  # false: only a full score counts
    judges_correctness: ClassVar[bool] = True

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def quick(self, problem: Problem, completion: Completion, context: Context) -> Score | None:
        del context
        if "gym_task" not in problem.columns:
            return NOT_OF_GYM
        return 0.0 if style_named(self.style).read_answer(completion.text) is None else None

    def cache_key(self, problem: Problem, completion: Completion) -> tuple[str, ...] | None:
        answer = style_named(self.style).read_answer(completion.text) or ""
        return (*(str(problem.columns.get(name)) for name in _COLUMNS), answer)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        known = self.quick(problem, completion, context)
        if known is not None:
            return known
        import reasoning_gym

        columns = problem.columns
        task = str(columns["gym_task"])
        entry = gym_entry(
            task,
            json.loads(columns["gym_config"]),
            columns["gym_seed"],
            columns["gym_size"],
            columns["gym_index"],
        )
        answer = style_named(self.style).read_answer(completion.text)
        try:
            score = float(reasoning_gym.get_score_answer_fn(task)(answer, entry))
        except Exception:  # noqa: BLE001 - the library's parsers raise whatever they meet in an answer: it is wrong
            return 0.0
        return min(max(score, 0.0), 1.0) if self.partial else float(score >= 1.0)


_COLUMNS = ("gym_task", "gym_config", "gym_seed", "gym_size", "gym_index")
