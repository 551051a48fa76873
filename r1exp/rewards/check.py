"""Checks a committee before training: gold answers must score highest, and no cheat may score as much.

For some problems, completions of known quality are written: the gold answer in the prompt's style, and
cheats that a model could find. The check fails where a rule is broken:

    gold    every member that judges correctness gives gold its maximum, on every problem
    cheats  the weighted total of every cheat, averaged over the problems, is lower than that of gold

Members that compare completions get each cheat among gold completions of the same problem.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from r1exp.errors import R1ExpError, Refused
from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import (
    NOT_APPLICABLE,
    Abstain,
    BatchReward,
    BatchScorer,
    Context,
    GroupReward,
    Reward,
    Score,
)
from r1exp.rewards.committee import Committee, Openers
from r1exp.rewards.probes import GOLD, probes_of
from r1exp.rewards.total import weighted_totals

_CHARACTERS_PER_TOKEN = 4  # roughly, to give every text a length in tokens
_LOGPROBS = (-0.5,)  # natural logarithms, the same for all: every vote has the same weight


@dataclass(frozen=True, slots=True)
class Line:
    """The scores of one kind of completion, averaged over the problems."""

    probe: str
    scores: dict[str, float | None]  # member: mean; None: it scored no problem
    total: float  # weighted


@dataclass(frozen=True, slots=True)
class Report:
    """The table of scores, what is wrong, and the time that scoring takes."""

    lines: tuple[Line, ...]
    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    num_problems: int
    seconds_per_batch: float

    @property
    def ok(self) -> bool:
        """Whether the committee passed."""
        return not self.failures

    def text(self) -> str:
        """Return the table and the verdict as text."""
        members = list(self.lines[0].scores)
        table = [["completion", *members, "total"]]
        for line in self.lines:
            cells = ["-" if score is None else f"{score:.3f}" for score in line.scores.values()]
            table.append([line.probe, *cells, f"{line.total:.3f}"])
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        rows = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in table
        ]
        verdict = ["FAILED " + failure for failure in self.failures]
        verdict += ["note   " + warning for warning in self.warnings]
        problems = f"{self.num_problems} problem" + ("" if self.num_problems == 1 else "s")
        verdict += [f"means over {problems}; about {self.seconds_per_batch:.2g} s a batch"]
        verdict += ["passed" if self.ok else "failed"]
        return "\n".join([*rows, "", *verdict])


def check(
    rewards: Mapping[str, Reward],
    style: StyleName,
    problems: Sequence[Problem],
    *,
    group_size: int = 4,
    rows_per_batch: int = 1,
    openers: Openers | None = None,
) -> Report:
    """Score gold answers and cheats with the committee and report what is wrong.

    Args:
        rewards: The members.
        style: The prompt's.
        problems: Some problems of the training set.
        group_size: Completions per group, for members that compare completions.
        rows_per_batch: Completions in one training batch, to estimate its seconds.
        openers: As for `Committee`; a member that cannot be opened here is left out, with a warning.

    Raises:
        Refused: `problems` is empty.
    """
    if not problems:
        raise Refused("there is no problem to check the rewards with; give a data set that is not empty")
    not_checked: list[str] = []
    committee = Committee(rewards, openers=_openers(rewards, openers or {}, not_checked))
    size = group_size if any(isinstance(reward, GroupReward) for reward in rewards.values()) else 1
    try:
        probes = [probes_of(rewards, style_named(style), problem) for problem in problems]
        first = replace(problems[0], id="warm-up")
        _score(committee, first, [probes[0][GOLD]])  # so that imports and connections are not timed
        begin = time.perf_counter()
        tables = [
            {
                name: _score(
                    committee, replace(problem, id=f"{problem.id} {name}"), _group(text, texts[GOLD], size)
                )
                for name, text in texts.items()
            }
            for problem, texts in zip(problems, probes, strict=True)
        ]
        seconds = time.perf_counter() - begin
    finally:
        committee.close()
    num_rows = sum(len(texts) for texts in probes) * size
    failures, warnings = _verdict(rewards, problems, tables, not_checked)
    return Report(
        lines=tuple(_lines(rewards, tables)),
        failures=tuple(failures),
        warnings=tuple(warnings),
        num_problems=len(problems),
        seconds_per_batch=seconds / num_rows * rows_per_batch,
    )


Scores = dict[str, Score]  # member: its score of one probe on one problem


def _group(text: str, gold: str, size: int) -> list[str]:
    return [text, *[gold] * (size - 1)]


def _score(committee: Committee, problem: Problem, texts: list[str]) -> Scores:
    completions = [
        Completion(text, max(1, len(text) // _CHARACTERS_PER_TOKEN), logprobs=_LOGPROBS) for text in texts
    ]
    table = committee.score([problem] * len(texts), completions, Context())
    return {name: scores[0] for name, scores in table.items()}


def _lines(rewards: Mapping[str, Reward], tables: Sequence[Mapping[str, Scores]]) -> list[Line]:
    weights = {name: reward.weight for name, reward in rewards.items()}
    lines = []
    for probe in dict.fromkeys(name for table in tables for name in table):
        seen = [table[probe] for table in tables if probe in table]
        columns = {name: [_number(scores[name]) for scores in seen] for name in rewards}
        means = {name: _mean(column) for name, column in columns.items()}
        totals = [0.0 if total is None else total for total in weighted_totals(columns, weights)]
        lines.append(Line(probe, means, math.fsum(totals) / len(totals)))
    return lines


def _number(score: Score) -> float | None:
    return None if isinstance(score, Abstain) else score


def _mean(column: Sequence[float | None]) -> float | None:
    known = [score for score in column if score is not None]
    return math.fsum(known) / len(known) if known else None


def _verdict(
    rewards: Mapping[str, Reward],
    problems: Sequence[Problem],
    tables: Sequence[Mapping[str, Scores]],
    not_checked: list[str],
) -> tuple[list[str], list[str]]:
    failures = [line for name in rewards for line in _gold_failures(name, rewards[name], problems, tables)]
    warnings = list(not_checked)
    judged = [
        table
        for problem, table in zip(problems, tables, strict=True)
        if any(
            reward.judges_correctness and reward.weight > 0.0 and reward.applies(problem)
            for reward in rewards.values()
        )
    ]
    cheats = _cheats_that_reach_gold(rewards, judged or tables)
    if judged:
        failures += cheats
    else:
        no_judge = "no member with a positive weight judges correctness, so nothing makes gold score higher"
        warnings += [no_judge, *cheats]
    return failures, warnings


def _gold_failures(
    name: str, reward: Reward, problems: Sequence[Problem], tables: Sequence[Mapping[str, Scores]]
) -> list[str]:
    if not reward.judges_correctness:
        return []
    pairs = [(problem, table[GOLD][name]) for problem, table in zip(problems, tables, strict=True)]
    wrong = [(problem, score) for problem, score in pairs if score not in (reward.span[1], NOT_APPLICABLE)]
    if not wrong:
        return []
    problem, score = wrong[0]
    found = f"abstains ({score.reason})" if isinstance(score, Abstain) else f"gives {score:g}"
    return [
        f"rewards.{name} {found} on the gold answer {problem.answer!r} of problem {problem.id!r}, and its maximum "
        f"is {reward.span[1]:g} ({len(wrong)} of {len(pairs)} problems); look at how the prompt's style, the data's "
        "answers and the reward's `read` or `style` fit together"
    ]


def _cheats_that_reach_gold(
    rewards: Mapping[str, Reward], tables: Sequence[Mapping[str, Scores]]
) -> list[str]:
    lines = {line.probe: line for line in _lines(rewards, tables)}
    gold = lines[GOLD].total
    return [
        f"{probe!r} scores {line.total:.3f} and gold scores {gold:.3f}: the policy will learn to cheat; raise the "
        "weight of the member that judges correctness, or add a member that the cheat fails, such as rewards.format"
        for probe, line in lines.items()
        if probe != GOLD and line.total >= gold - 1e-9
    ]


class _NotOpened:
    """Abstains in place of a scorer that cannot be opened here."""

    def __init__(self, reason: str) -> None:
        self._reason = Abstain(reason)

    def score(
        self, problems: Sequence[Problem], completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        del completions, context
        return [self._reason] * len(problems)


def _openers(rewards: Mapping[str, Reward], given: Openers, not_checked: list[str]) -> Openers:
    """Return openers that add what cannot be opened to `not_checked`, instead of raising."""

    def open_or_abstain(reward: BatchReward) -> BatchScorer:
        try:
            return given[reward.kind](reward) if reward.kind in given else reward.open()
        except R1ExpError as error:
            name = next(name for name, member in rewards.items() if member is reward)
            not_checked.append(f"rewards.{name} was not checked: {error}")
            return _NotOpened("not checked")

    return {reward.kind: open_or_abstain for reward in rewards.values() if isinstance(reward, BatchReward)}
