"""The base of rewards that compare the answer with the gold answer by the one judge (docs/judgement.md)."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

from r1exp.judgement.judge import can_read
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
_NEVER_COMPARED = {
    "an answer that needs all memory": "9^{9^{9^{9}}}",
    "an answer with ten thousand terms": "(1+x)^{10000}",
}
_MOST_ASKED = 50  # gold answers that math-verify is asked about for a check
_KINDS: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
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
    return default if given is None else _KINDS.get(given, default)


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

    def evaluates(self) -> bool:
        """Return False: the judge of evaluations is the same."""
        return False

    def cheats(self, problem: Problem) -> dict[str, str]:
        """Return answers that no machine can compare, and the right answer among others."""
        if not (problem.answer or "").strip():
            return {}
        return _NEVER_COMPARED | {
            "several answers": f"{problem.answer} or 1000003",
            "a denied answer": f"not {problem.answer}",
        }

    def unreadable_golds(self, problems: Sequence[Problem]) -> list[Problem]:
        """Return the problems whose gold answer cannot be read; math-verify is asked about the first open ones only."""
        golds = [(problem.answer, kind_of(problem, self.answer_kind)) for problem in problems]
        known = [can_read(gold, kind) for gold, kind in golds]
        still_open = [row for row, each in enumerate(known) if each is None][:_MOST_ASKED]
        judge = AnswerJudge(self.seconds)
        for row, each in zip(still_open, judge.can_read([golds[row] for row in still_open]), strict=True):
            known[row] = each
        judge.close()
        return [problem for problem, each in zip(problems, known, strict=True) if each is False]

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
