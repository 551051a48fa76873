"""Judges held-out answers as `evaluation.judge` says: by the judge of the rewards, or by one that is named."""

from collections.abc import Mapping, Sequence

from r1exp.evaluation.settings import JudgeName
from r1exp.judgement.judgement import Judgement, Kind, Verdict
from r1exp.prompt.answer import last_number
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.advice import evaluating_member
from r1exp.rewards.answer_reward import Place, judge_completions, kind_of, read_answer
from r1exp.rewards.base import NO_GOLD, NOT_APPLICABLE, UNREADABLE_GOLD, Abstain, Context, Reward, Score
from r1exp.rewards.bounded_judge import AnswerJudge
from r1exp.rewards.committee import Committee


class Judging:
    """Judges completions; to be closed at the end, which ends its worker processes.

    Args:
        judge: Its name.
        style: The prompt's.
        rewards: The members that `reward` may name; None: there are none.
    """

    def __init__(self, judge: JudgeName, style: str, rewards: Mapping[str, Reward] | None = None) -> None:
        self._style = style
        self._place: Place = (
            "style_then_last_number" if judge == "accuracy_then_last_number" else "style_or_last_number"
        )
        self._kind: Kind = "exact" if judge == "strict" else "auto"
        self._answers = AnswerJudge()
        member = evaluating_member(rewards) if judge == "reward" else None
        self._member = member
        self._committee = None if member is None or rewards is None else Committee({member: rewards[member]})

    def judge(self, problems: Sequence[Problem], completions: Sequence[Completion]) -> list[Judgement]:
        """Return the judgement of each completion; those of one problem are neighbors."""
        rows = [(problem, completion.text) for problem, completion in zip(problems, completions, strict=True)]
        if self._committee is None or self._member is None:
            return judge_completions(self._answers, rows, self._place, self._style, self._kind)
        scores = self._committee.score(problems, completions, Context())[self._member]
        reward = self._committee.rewards[self._member]
        others = [row for row, score in enumerate(scores) if score == NOT_APPLICABLE]
        judged = judge_completions(
            self._answers, [rows[row] for row in others], self._place, self._style, self._kind
        )
        by_others = dict(zip(others, judged, strict=True))
        return [
            by_others[row]
            if row in by_others
            else judgement_of(score, self._member, reward, read_answer(self._place, self._style, text))
            for row, (score, (_, text)) in enumerate(zip(scores, rows, strict=True))
        ]

    @property
    def reads_answers(self) -> bool:
        """Whether answers are read and compared with the gold answer, and not scored by a member of the rewards."""
        return self._committee is None

    def exact(self, completions: Sequence[Completion], judgements: Sequence[Judgement]) -> list[bool]:
        """Return for each completion whether it is correct, and its answer stands where the style wants it."""
        style = style_named(self._style)
        return [
            judgement.is_correct and judgement.read == style.read_answer(completion.text)
            for completion, judgement in zip(completions, judgements, strict=True)
        ]

    def plausible(
        self,
        problems: Sequence[Problem],
        completions: Sequence[Completion],
        judgements: Sequence[Judgement],
    ) -> list[bool]:
        """Return for each completion whether it is correct, or its last number is the gold answer ([gemma-grpo])."""
        found = [judgement.is_correct for judgement in judgements]
        numbers = {
            row: last_number(completion.text) for row, completion in enumerate(completions) if not found[row]
        }
        asked = [row for row, number in numbers.items() if number not in (None, judgements[row].read)]
        again = self._answers.judge_kinds(
            [(numbers[row], problems[row].answer, kind_of(problems[row], self._kind)) for row in asked]
        )
        for row, judgement in zip(asked, again, strict=True):
            found[row] = judgement.is_correct
        return found

    def readable(self, problems: Sequence[Problem]) -> list[bool]:
        """Return for each problem whether its gold answer can be read."""
        if self._committee is not None or self._kind == "exact":
            return [True] * len(problems)
        return self._answers.can_read(
            [(problem.answer, kind_of(problem, self._kind)) for problem in problems]
        )

    def close(self) -> None:
        """End the worker processes."""
        self._answers.close()
        if self._committee is not None:
            self._committee.close()


def judgement_of(score: Score, name: str, reward: Reward, read: str | None) -> Judgement:
    """Return a member's score as a judgement: correct if it is the maximum; an abstention is no correct answer."""
    if isinstance(score, Abstain):
        verdict: Verdict = "unreadable gold" if score in (NO_GOLD, UNREADABLE_GOLD) else "unreadable answer"
        return Judgement(verdict, f"rewards.{name} abstains: {score.reason}", read)
    return Judgement("correct" if score >= reward.span[1] else "wrong", f"rewards.{name}: {score:g}", read)
