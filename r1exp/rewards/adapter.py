"""Adapts the committee to TRL: one reward function for each member.

    reward(prompts, completions, completion_ids, **columns, trainer_state, log_metric) -> [number | None]

TRL 1.16 calls the functions one after the other, in order, on every rank, each with this rank's
slice of the batch, and averages the values given to `log_metric` over ranks. The first call of a batch
scores it for all members; the others return their column.

TRL adds up the numbers and skips None: inside a group, a completion without a score would get 0 where
its neighbors get 2. An abstention therefore becomes the mean of its group (`total.impute_group_mean`).
A group that a member could not score at all is None for all its completions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r1exp.errors import Refused
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, TokenizedCompletion
from r1exp.rewards.committee import Committee
from r1exp.rewards.metrics import AbstentionBound, AbstentionWatch, Metrics
from r1exp.rewards.ranks import ALONE, Ranks, Scored, score_together
from r1exp.rewards.total import Column, impute_group_mean

RewardFunc = Callable[..., list[float | None]]
# Receives each scored batch of all ranks, and for each member its imputed scores and its weight.
OnScored = Callable[[Scored, Mapping[str, Column], Mapping[str, float]], None]

# One list of natural logarithms for each completion, or null; present if the rollout provides it.
LOGPROBS_COLUMN = "completion_logprobs"
_NOT_COLUMNS = {"prompts", "completions", "completion_ids", "environments", LOGPROBS_COLUMN}
_NOT_COLUMNS |= {"trainer_state", "log_extra", "log_metric"}


def reward_funcs(
    committee: Committee,
    ranks: Ranks = ALONE,
    bound: AbstentionBound | None = None,
    on_scored: OnScored | None = None,
) -> list[RewardFunc]:
    """Return the committee as TRL reward functions, each named after its member.

    Args:
        committee: Its `weights` are TRL's `reward_weights`.
        ranks: This rank among the others, with accelerate's `gather_object`.
        bound: The share of abstentions at which the run is stopped.
        on_scored: Called with each scored batch.
    """
    batches = _ScoredBatches(committee, ranks, AbstentionWatch(bound or AbstentionBound()), on_scored)
    return [batches.function(name) for name in committee.names]


class _ScoredBatches:
    """Scores each batch once and gives each reward function its column."""

    def __init__(
        self, committee: Committee, ranks: Ranks, watch: AbstentionWatch, on_scored: OnScored | None
    ) -> None:
        self._committee = committee
        self._ranks = ranks
        self._watch = watch
        self._on_scored = on_scored
        self._metrics = Metrics(
            judges={
                name: reward.span
                for name, reward in committee.rewards.items()
                if reward.weight == 0.0 and reward.judges_correctness and reward.span[0] < reward.span[1]
            },
            best=sum(
                reward.weight * reward.span[1] for reward in committee.rewards.values() if reward.weight
            ),
        )
        self._batch: Any = None  # the list TRL passes to every function of one batch
        self._columns: dict[str, list[float | None]] = {}

    def function(self, name: str) -> RewardFunc:
        is_first = name == self._committee.names[0]

        def reward(completions: list[Any], **kwargs: Any) -> list[float | None]:
            if is_first or self._batch is not completions:
                self._columns = self._score(completions, kwargs)
                self._batch = completions
            return self._columns[name]

        reward.__name__ = name
        return reward

    def _score(self, completions: list[Any], kwargs: Mapping[str, Any]) -> dict[str, list[float | None]]:
        problems = [Problem.from_row(row) for row in _rows(kwargs, len(completions))]
        answers = _completions(completions, kwargs["completion_ids"], kwargs.get(LOGPROBS_COLUMN))
        context = _context(kwargs.get("trainer_state"))
        scored = score_together(self._committee, problems, answers, context, self._ranks)
        weights = dict(zip(self._committee.names, self._committee.weights, strict=True))
        self._watch.add_batch({name: scores for name, scores in scored.table.items() if weights[name] > 0.0})
        columns = {
            name: impute_group_mean(scores, scored.batch.groups) for name, scores in scored.table.items()
        }
        if self._on_scored is not None:
            self._on_scored(scored, columns, weights)
        log_metric = kwargs.get("log_metric")
        if log_metric is not None:
            for metric, value in self._metrics.compute(scored, weights, columns).items():
                log_metric(metric, value)
        return {name: column[scored.own] for name, column in columns.items()}


def _rows(kwargs: Mapping[str, Any], num_rows: int) -> list[dict[str, Any]]:
    missing = {"id", "question", "answer"} - kwargs.keys()
    if missing:
        raise Refused(
            f"the rows have no column {sorted(missing)}, which rewards need; write rows with `Problem.to_row`"
        )
    columns = {name: values for name, values in kwargs.items() if name not in _NOT_COLUMNS}
    return [{name: values[row] for name, values in columns.items()} for row in range(num_rows)]


def _completions(
    texts: Sequence[Any],
    token_ids: Sequence[Sequence[int]],
    logprobs: Sequence[Sequence[float] | None] | None,
) -> list[Completion]:
    known = [None] * len(texts) if logprobs is None else logprobs
    return [
        TokenizedCompletion(
            text=_text(text),
            num_tokens=len(ids),
            logprobs=None if logs is None else tuple(logs),
            token_ids=tuple(ids),
        )
        for text, ids, logs in zip(texts, token_ids, known, strict=True)
    ]


def _text(completion: Any) -> str:
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] or "" for message in completion if message["role"] == "assistant")


def _context(trainer_state: Any) -> Context:
    if trainer_state is None:
        return Context()
    return Context(step=trainer_state.global_step, num_steps=trainer_state.max_steps)
