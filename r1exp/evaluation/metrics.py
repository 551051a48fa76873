"""Computes what is reported of the answers to a suite, by decoding.

    accuracy    correct by the suite's judge
    exact       correct, with the answer in the place that the prompt's style gives it
    plausible   correct, or the last number of the completion is the gold answer
    format      the whole completion has the style's format
    mixing      the reasoning has words in another language than the question's; of the rows whose column `language` names it
    cut_off     truncated at the length limit
    pass@k, cons@k, best@k   of k sampled answers (r1exp/evaluation/repeated.py), where there are several
    accuracy_std             standard deviation of the accuracy between samples: of all first answers, all second answers, ...
    input_tokens, output_tokens   mean and max

Rates have 95 % intervals, whose unit is the problem. Source: [gemma-grpo], the table of its evaluation script (format,
plausible, exact, tokens); arXiv:2107.03374 (pass@k); [deepseek-r1] (voting).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from r1exp.evaluation.repeated import best_at_k, cons_at_k, pass_at_k, sizes
from r1exp.rewards.votes import answer_of
from r1exp.statistics.fractions import mean_of_fractions
from r1exp.statistics.intervals import clustered_proportion

Mode = Literal["sampled", "greedy"]
Metrics = dict[str, Any]  # metric -> value, n, low and high of a rate, or a number
RATES = ("accuracy", "exact", "plausible", "format", "mixing", "cut_off")


@dataclass(frozen=True, slots=True)
class Judged:
    """One completion with its judgement; a row of answers.jsonl."""

    suite: str
    problem_id: str
    mode: Mode
    prompt: str  # the question; of a chat, all its turns
    sample: int  # its number among the completions of the problem, from 0
    text: str
    answer: str | None  # as the judge read it; None: no answer in the style's format, and no number
    gold: str
    correct: bool
    how: str  # the rule that decided
    exact: bool | None  # None: a member of the rewards judges, which reads no answer
    plausible: bool | None  # as `exact`
    format: bool  # follows the style's format
    num_tokens: int
    finished: bool  # False: truncated at the length limit
    input_tokens: int | None  # of the prompt; None: an endpoint has the tokenizer
    mixed: bool | None = None  # the reasoning has words in another language; None: the row names no language
    reward: float | None = None  # the committee's total; None: not computed, or no member could score it


def metrics_of(groups: Sequence[Sequence[Judged]]) -> Metrics:
    """Return the metrics of one decoding.

    Args:
        groups: The judged completions of each problem, as many for each.
    """
    rows = [row for group in groups for row in group]
    outcomes = [[row.correct for row in group] for group in groups]
    found: Metrics = {"accuracy": _rate(groups, lambda row: row.correct)}
    if all(row.exact is not None and row.plausible is not None for row in rows):
        found["exact"] = _rate(groups, lambda row: bool(row.exact))
        found["plausible"] = _rate(groups, lambda row: bool(row.plausible))
    found["format"] = _rate(groups, lambda row: row.format)
    named = [group for group in groups if all(row.mixed is not None for row in group)]
    if named:
        found["mixing"] = _rate(named, lambda row: bool(row.mixed))
    found["cut_off"] = _rate(groups, lambda row: not row.finished)
    found |= _of_several(groups, outcomes)
    if all(row.input_tokens is not None for row in rows):
        lengths = [group[0].input_tokens or 0 for group in groups]
        found |= {"input_tokens_mean": fmean(lengths), "input_tokens_max": max(lengths)}
    lengths = [row.num_tokens for row in rows]
    return found | {"output_tokens_mean": fmean(lengths), "output_tokens_max": max(lengths)}


def _rate(groups: Sequence[Sequence[Judged]], holds: Callable[[Judged], bool]) -> dict[str, float]:
    return asdict(clustered_proportion([[holds(row) for row in group] for group in groups]))


def _of_several(groups: Sequence[Sequence[Judged]], outcomes: Sequence[Sequence[bool]]) -> Metrics:
    """Return what only several answers to a problem have: pass@k, cons@k, best@k and the spread between samples."""
    num_samples = len(groups[0])
    found: Metrics = {"samples": num_samples}
    if num_samples == 1:
        return found
    by_sample = [fmean(column) for column in zip(*outcomes, strict=True)]
    found["accuracy_std"] = stdev(by_sample)
    reads = all(row.exact is not None for group in groups for row in group)
    votes = [[None if row.answer is None else answer_of(row.answer) for row in group] for group in groups]
    scored = any(row.reward is not None for group in groups for row in group)
    rewards = [[-math.inf if row.reward is None else row.reward for row in group] for group in groups]
    for k in sizes(num_samples):

        def report(name: str, values: Sequence[float], k: int = k) -> None:
            found[f"{name}@{k}"] = asdict(mean_of_fractions(values, draws=num_samples // k))

        report("pass", [pass_at_k(num_samples, sum(group), k) for group in outcomes])
        if reads:
            report("cons", [cons_at_k(*pair, k) for pair in zip(votes, outcomes, strict=True)])
        if scored:
            report("best", [best_at_k(*pair, k) for pair in zip(rewards, outcomes, strict=True)])
    return found
