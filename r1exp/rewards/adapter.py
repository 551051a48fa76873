"""How does TRL call the committee? As one function a member, in TRL's form.

    reward(prompts, completions, completion_ids, **columns, trainer_state, log_metric) -> [number | None]

TRL 1.16 calls the functions one after the other, in order, on every rank, each with this rank's
slice of the batch. The first call of a batch scores it for all members; the others read their
column.

TRL adds up what is there and skips None, so that inside a group a completion without a score would
be paid 0 where its neighbours are paid 2. An abstention must be neutral: it takes the mean of its
group under that member, which leaves its advantage to the other members. A group nobody could
score is None throughout.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context, Score
from r1exp.rewards.committee import Committee, groups_of

RewardFunc = Callable[..., list[float | None]]

_NOT_COLUMNS = {"prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric"}
_NOT_COLUMNS |= {"environments"}


def reward_funcs(committee: Committee) -> list[RewardFunc]:
    """Return the committee as TRL reward functions, each named after its member."""
    desk = _Desk(committee)
    return [desk.function(name) for name in committee.names]


def neutral(scores: Sequence[Score], groups: Sequence[tuple[int, ...]]) -> list[float | None]:
    """Return `scores` with each abstention replaced by the mean of its group, or None without one."""
    paid: list[float | None] = [None if isinstance(score, Abstain) else score for score in scores]
    for rows in groups:
        known = [score for row in rows if not isinstance(score := scores[row], Abstain)]
        if known and len(known) < len(rows):
            mean = math.fsum(known) / len(known)
            for row in rows:
                paid[row] = mean if paid[row] is None else paid[row]
    return paid


class _Desk:
    """Scores a batch once and hands each function its column."""

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self._batch: Any = None  # the list TRL passes to every function of one batch
        self._columns: dict[str, list[float | None]] = {}

    def function(self, name: str) -> RewardFunc:
        def reward(completions: list[Any], **kwargs: Any) -> list[float | None]:
            if self._batch is not completions:
                self._columns = self._score(completions, kwargs)
                self._batch = completions
            return self._columns[name]

        reward.__name__ = name
        return reward

    def _score(self, completions: list[Any], kwargs: Mapping[str, Any]) -> dict[str, list[float | None]]:
        problems = [Problem.from_row(row) for row in _rows(kwargs, len(completions))]
        texts = [_text(completion) for completion in completions]
        answers = [
            Completion(text, num_tokens=len(ids))
            for text, ids in zip(texts, kwargs["completion_ids"], strict=True)
        ]
        table = self._committee.score(problems, answers, _context(kwargs.get("trainer_state")))
        groups = groups_of(problems)
        return {name: neutral(scores, groups) for name, scores in table.items()}


def _rows(kwargs: Mapping[str, Any], num_rows: int) -> list[dict[str, Any]]:
    columns = {name: values for name, values in kwargs.items() if name not in _NOT_COLUMNS}
    return [{name: values[row] for name, values in columns.items()} for row in range(num_rows)]


def _text(completion: Any) -> str:
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] or "" for message in completion if message["role"] == "assistant")


def _context(trainer_state: Any) -> Context:
    if trainer_state is None:
        return Context()
    return Context(step=trainer_state.global_step, num_steps=trainer_state.max_steps)
