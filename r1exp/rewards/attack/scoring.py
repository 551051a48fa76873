"""Scores strategies with a committee: the mean total over some problems, and which members it comes from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from r1exp.errors import R1ExpError
from r1exp.prompt.answer import same_answer
from r1exp.prompt.style import Style
from r1exp.records import Completion, Problem
from r1exp.rewards.attack.pieces import HONEST_WORDS, Piece
from r1exp.rewards.attack.strategy import Strategy
from r1exp.rewards.base import NOT_APPLICABLE, TIMEOUT, Abstain, Context, JudgedReward, Score
from r1exp.rewards.committee import Batch, Committee, Unit
from r1exp.rewards.total import weighted_totals

CHARACTERS_PER_TOKEN = 4  # roughly, to give every text a length in tokens
_LOGPROBS = (-0.5,)  # natural logarithms, the same for all
Scores = dict[str, Score]  # member: its score of one completion


@dataclass(frozen=True, slots=True)
class Result:
    """What a strategy scores."""

    strategy: Strategy
    total: float | None  # weighted, averaged over the problems; None: no problem has one
    scores: dict[str, float]  # member: mean, abstentions imputed as in `Scorer`
    abstained: dict[str, str]  # member: its first reason
    example: str  # the completion for one problem


@dataclass(frozen=True, slots=True)
class Honest:
    """What an honest policy scores; the numbers that an abstention is imputed from."""

    gold: dict[str, float] = field(default_factory=dict)  # member: mean score of the gold completion
    mistake: dict[str, float] = field(default_factory=dict)  # member: mean score of an honest mistake


class Scorer:
    """Scores strategies on some problems.

    An abstention on a completion whose gold the member can score is imputed as training does, by the mean of a group,
    here of half gold and half honest mistakes. Problems whose answer a strategy happens to hit are left out.

    Args:
        committee: The members; those in worker processes are bounded by their deadlines.
        style: The prompt's.
        problems: What the strategies answer.
        golds: For each problem, a right completion.
        answers: The pieces that strategies' answers are keys of.
        group_size: Completions of a group: one of the strategy, the others gold.
        most_tokens: Of a completion; strategies fit their text into it, and what is longer is cut off, as in sampling.
    """

    def __init__(
        self,
        committee: Committee,
        style: Style,
        problems: Sequence[Problem],
        golds: Sequence[str],
        answers: Mapping[str, Piece],
        *,
        group_size: int,
        most_tokens: int,
    ) -> None:
        self._committee = committee
        self._style = style
        self._problems = problems
        self._golds = golds
        self._answers = answers
        self._group_size = group_size
        self._most_tokens = most_tokens
        self.honest = Honest()
        self.num_scored = 0  # strategies

    def gold(self) -> Result:
        """Score the gold completions."""
        tables = self._score(list(zip(self._problems, self._golds, strict=True)))
        return self._result(Strategy(), list(zip(self._golds, tables, strict=True)))

    def mistake_as_long_as_gold(self) -> Result:
        """Score wrong answers after a few words, each as long as the gold completion of its problem."""
        pairs = [
            (problem, _as_long_as(self._style, gold, problem.answer or ""))
            for problem, gold in zip(self._problems, self._golds, strict=True)
        ]
        texts = [text for _, text in pairs]
        return self._result(Strategy(), list(zip(texts, self._score(pairs), strict=True)))

    def results(self, strategies: Sequence[Strategy]) -> list[Result]:
        """Score strategies, all in one batch."""
        room = self._most_tokens * CHARACTERS_PER_TOKEN
        self.num_scored += len(strategies)
        rows: list[tuple[int, Problem, str]] = []
        for position, strategy in enumerate(strategies):
            for problem in self._problems:
                text = strategy.write(problem.prompt, self._style, self._answers, room)
                if not self._is_right(text, problem):
                    rows.append((position, problem, text))
        tables = self._score([(problem, text) for _, problem, text in rows])
        found: list[list[tuple[str, Scores]]] = [[] for _ in strategies]
        for (position, _, text), table in zip(rows, tables, strict=True):
            found[position].append((text, table))
        return [self._result(strategy, pairs) for strategy, pairs in zip(strategies, found, strict=True)]

    def _score(self, rows: Sequence[tuple[Problem, str]]) -> list[Scores]:
        """Return every member's score of each text, which is the first of its group."""
        gold_of = dict(zip((problem.id for problem in self._problems), self._golds, strict=True))
        problems: list[Problem] = []
        completions: list[Completion] = []
        for position, (problem, text) in enumerate(rows):
            group = [text, *[gold_of[problem.id]] * (self._group_size - 1)]
            problems += [replace(problem, id=f"{problem.id} attack {position}")] * len(group)
            completions += [self._completion(member) for member in group]
        batch = Batch(problems, completions, Context())
        table = self._committee.placed(self._unit_scores(batch), batch)
        for name, reward in self._committee.rewards.items():
            if isinstance(reward, JudgedReward):
                self._committee.add_judged_scores(name, table, batch)
        return [{name: table[name][group[0]] for name in table} for group in batch.groups]

    def _completion(self, text: str) -> Completion:
        num_tokens = max(1, len(text) // CHARACTERS_PER_TOKEN)
        if num_tokens > self._most_tokens:
            kept = text[: self._most_tokens * CHARACTERS_PER_TOKEN]
            return Completion(kept, self._most_tokens, finished=False, logprobs=_LOGPROBS)
        return Completion(text, num_tokens, logprobs=_LOGPROBS)

    def _unit_scores(self, batch: Batch) -> dict[Unit, list[Score]]:
        scores: dict[Unit, list[Score]] = {}
        units = self._committee.units(batch)
        for name in self._committee.names:
            of_member = [unit for unit in units if unit.name == name]
            try:
                scores |= self._committee.score_units(of_member, batch).scores
            except R1ExpError:
                raise
            except Exception:  # noqa: BLE001 - a member's code fails on a text: score the others one by one
                for unit in of_member:
                    scores[unit] = self._scores_of_unit(unit, batch)
        return scores

    def _scores_of_unit(self, unit: Unit, batch: Batch) -> list[Score]:
        try:
            return self._committee.score_units([unit], batch).scores[unit]
        except R1ExpError:
            raise
        except Exception as error:  # noqa: BLE001 - it would end the training; counted as an abstention
            return [Abstain(f"error: {type(error).__name__}")] * len(unit.rows)

    def _result(self, strategy: Strategy, pairs: Sequence[tuple[str, Scores]]) -> Result:
        columns: dict[str, list[float | None]] = {name: [] for name in self._committee.names}
        abstained: dict[str, str] = {}
        for _, scores in pairs:
            for name, score in scores.items():
                columns[name].append(self._number(name, score))
                if isinstance(score, Abstain) and score != NOT_APPLICABLE and name in self.honest.gold:
                    abstained.setdefault(name, score.reason)
        weights = dict(zip(self._committee.names, self._committee.weights, strict=True))
        totals = [total for total in weighted_totals(columns, weights) if total is not None]
        return Result(
            strategy,
            math.fsum(totals) / len(totals) if totals else None,
            {
                name: math.fsum(known) / len(known)
                for name, column in columns.items()
                if (known := _known(column))
            },
            abstained,
            pairs[0][0] if pairs else "",
        )

    def _is_right(self, text: str, problem: Problem) -> bool:
        """Return whether a completion gives the right answer, or the right letter, by luck."""
        found = self._style.read_answer(text)
        golds = {
            problem.answer,
            *(reward.gold_answer(problem) for reward in self._committee.rewards.values()),
        }
        return any(same_answer(found, gold) for gold in golds if gold is not None)

    def _number(self, name: str, score: Score) -> float | None:
        if not isinstance(score, Abstain):
            return score
        if score == NOT_APPLICABLE or name not in self.honest.gold:
            return None
        return (self.honest.gold[name] + self.honest.mistake.get(name, self.honest.gold[name])) / 2


def is_late(result: Result) -> bool:
    """Return whether a member exceeded its deadline on a strategy."""
    return TIMEOUT.reason in result.abstained.values()


def _as_long_as(style: Style, gold: str, answer: str) -> str:
    """Return a completion with a wrong number of as many characters as `answer`, filled up to the length of `gold`."""
    wrong = "".join("7" if digit != "7" else "3" for digit in answer) or "1"
    missing = max(0, len(gold) - len(style.join("", wrong)))
    return style.join((HONEST_WORDS * (missing // len(HONEST_WORDS) + 1))[:missing], wrong)


def _known(column: Sequence[float | None]) -> list[float]:
    return [score for score in column if score is not None]
