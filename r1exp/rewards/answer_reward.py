"""The base of rewards that compare the answer with the gold answer by the one judge (docs/judgement.md)."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

from r1exp.judgement.judgement import Judgement, Kind
from r1exp.prompt.answer import answer_or_last_number, last_number
from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, BatchReward, Context, Score
from r1exp.rewards.bounded_judge import DEADLINE, AnswerJudge

# Where the answer is read: the place that the style gives it, \boxed{}, the last number, or the style's place and, if
# that is absent, the last number. With `then`, the last number also where the answer in the style's place is not right.
Place = Literal["style", "boxed", "last_number", "style_or_last_number", "style_then_last_number"]
KIND_COLUMN = "answer_kind"  # column of the data that says what the gold answer of a row is


def read_answer(place: Place, style: str, text: str) -> str | None:
    """Return the answer in a completion, or None."""
    if place == "last_number":
        return last_number(text)
    if place in ("style_or_last_number", "style_then_last_number"):
        return answer_or_last_number(style_named(style), text)
    return style_named("boxed" if place == "boxed" else style).read_answer(text)


def kind_of(problem: Problem, default: Kind = "auto") -> Kind:
    """Return what the gold answer of a problem is: what its row says, else `default`."""
    given = problem.columns.get(KIND_COLUMN)
    return given if given in get_args(Kind) else default


def judge_completions(
    judge: AnswerJudge,
    rows: Sequence[tuple[Problem, str]],
    place: Place,
    style: str,
    kind: Kind = "auto",
) -> list[Judgement]:
    """Return the judgement of each completion.

    Args:
        judge: Compares.
        rows: Problems and the texts of completions that answer them.
        place: Where the answer is read.
        style: The prompt's.
        kind: What gold answers are, where the row does not say.
    """
    asked = [
        (read_answer(place, style, text), problem.answer, kind_of(problem, kind)) for problem, text in rows
    ]
    found = judge.judge_kinds(asked)
    if place != "style_then_last_number":
        return found
    retried = [
        row for row, judgement in enumerate(found) if judgement.verdict in ("wrong", "unreadable answer")
    ]
    again = judge.judge_kinds([(last_number(rows[row][1]), *asked[row][1:]) for row in retried])
    for row, judgement in zip(retried, again, strict=True):
        if judgement.is_correct:
            found[row] = Judgement("correct", f"{judgement.how}, the last number", judgement.read)
    return found


class AnswerReward(BatchReward):
    """A reward whose score depends on the judgement of the answer."""

    style: StyleName  # decides where the answer is read
    judges_correctness: ClassVar[bool] = True
    is_local: ClassVar[bool] = True

    @abstractmethod
    def points(self, judgement: Judgement, problem: Problem, completion: Completion) -> Score:
        """Return the score of a completion whose answer was judged."""

    @property
    def place(self) -> Place:
        """Where the answer is read."""
        return "style_or_last_number"

    @property
    def answer_kind(self) -> Kind:
        """What gold answers are, where the row does not say."""
        return "auto"

    @property
    def seconds(self) -> float:
        """Seconds that one comparison by math-verify may take."""
        return DEADLINE

    def open(self) -> "AnswerScorer":
        """Return the scorer; its worker processes start when they are needed."""
        return AnswerScorer(self)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        """Score one completion by itself."""
        scorer = self.open()
        try:
            return scorer.score([problem], [completion], context)[0]
        finally:
            scorer.close()


class AnswerScorer:
    """Scores completions with an `AnswerReward`."""

    def __init__(self, reward: AnswerReward) -> None:
        self._reward = reward
        self._judge = AnswerJudge(reward.seconds)

    def score(
        self, problems: Sequence[Problem], completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        """Return one score for each completion, in order."""
        del context
        reward = self._reward
        rows = [(problem, completion.text) for problem, completion in zip(problems, completions, strict=True)]
        judged = judge_completions(self._judge, rows, reward.place, reward.style, reward.answer_kind)
        return [
            NO_GOLD if problem.answer is None else reward.points(judgement, problem, completion)
            for problem, completion, judgement in zip(problems, completions, judged, strict=True)
        ]

    def close(self) -> None:
        """End the worker processes."""
        self._judge.close()
