from collections.abc import Sequence

import pytest

import r1exp
from r1exp.records import Problem
from r1exp.rewards.accuracy import Accuracy
from r1exp.rewards.base import TIMEOUT, Score
from r1exp.rewards.bounded_judge import AnswerJudge
from r1exp.rewards.check import check
from r1exp.rewards.graded import Graded
from r1exp.rewards.worker_process import Job
from r1exp.rewards.workers import DIED

HALF = r"\frac{1}{2}"
OPEN = r"\frac{\sin^2 x + \cos^2 x}{2}"  # only math-verify knows that it is one half


class FakeWorkers:
    """Scores jobs by a function, in place of processes that are late or die."""

    def __init__(self, scores: Sequence[Score]) -> None:
        self.scores = list(scores)
        self.asked: list[tuple[str, str | None]] = []

    def run(self, jobs: Sequence[Job]) -> list[list[Score]]:
        self.asked += [(job.completions[0].text, job.problem.answer) for job in jobs]
        return [[self.scores.pop(0)] for _ in jobs]


def judge_with(*scores: Score) -> tuple[AnswerJudge, FakeWorkers]:
    judge, workers = AnswerJudge(), FakeWorkers(scores)
    judge._pool = workers  # type: ignore[assignment]
    return judge, workers


def test_a_comparison_that_does_not_end_is_the_answers_fault() -> None:
    judge, workers = judge_with(TIMEOUT, 1.0)  # the gold answer, compared with itself, ends in time
    (found,) = judge.judge([(OPEN, HALF)])
    assert (found.verdict, found.how) == ("unreadable answer", "not compared in time")
    assert workers.asked == [(OPEN, HALF), (HALF, HALF)]


def test_a_gold_answer_that_never_ends_is_the_datas_fault() -> None:
    judge, _ = judge_with(TIMEOUT, TIMEOUT)
    assert judge.judge([(HALF, OPEN)])[0].verdict == "unreadable gold"


def test_an_answer_that_was_late_is_not_tried_again() -> None:
    judge, workers = judge_with(TIMEOUT, 1.0)
    judge.judge([(OPEN, HALF)])
    assert judge.judge([(OPEN, r"\frac{1 + \sin^2 x + \cos^2 x}{4}")])[0].how == "not compared in time"
    assert len(workers.asked) == 2


def test_a_worker_that_died_gets_a_second_try() -> None:
    judge, _ = judge_with(DIED, 1.0)
    assert judge.judge([(OPEN, HALF)])[0].is_correct


def test_equal_pairs_are_compared_once_and_remembered() -> None:
    judge, workers = judge_with(1.0)
    assert all(found.is_correct for found in judge.judge([(OPEN, HALF)] * 8))
    assert judge.judge([(OPEN, HALF)])[0].how == "math-verify"
    assert len(workers.asked) == 1


def test_python_has_the_judge() -> None:
    found = r1exp.judge("**42**", "42")
    assert found == r1exp.Judgement("correct", "equal numbers", "42")
    assert r1exp.judge("9^{9^{9^{9}}}", "42").verdict == "unreadable answer"
    assert r1exp.judge("p - q", "-q + p", "text").verdict == "wrong"
    assert r1exp.judge("B", "C", "choice").how == "choice"
    assert r1exp.judge("42", "forty", "choice").verdict == "unreadable gold"
    assert r1exp.judge("42.0", "42", "exact").verdict == "wrong"
    assert r1exp.judge(None, "42").how == "no answer"
    assert r1exp.judge("42", " ").verdict == "unreadable gold"


@pytest.mark.slow
def test_real_processes_end_at_the_deadline() -> None:
    judge = AnswerJudge(deadline=1.0, num_workers=2)
    late, right = judge.judge([(r"\sum_{n=1}^{10^{12}} \frac{1}{n}", HALF), (OPEN, HALF)])
    judge.close()
    assert (late.verdict, right.verdict) == ("unreadable answer", "correct")


@pytest.mark.parametrize(
    "member", [Accuracy(style="think_answer"), Graded(style="think_answer")], ids=["accuracy", "graded"]
)
def test_a_check_tries_answers_that_never_end_and_counts_gold_answers_that_cannot_be_read(
    member: Accuracy | Graded,
) -> None:
    problems = [Problem(f"p{number}", "What is it?", str(number + 30)) for number in range(3)]
    golds = [*problems, Problem("broken", "?", "?!"), Problem("p - q", "?", "p - q")]
    report = check({"right": member}, "think_answer", problems, all_golds=golds)
    assert report.ok, report.text()
    cheats = {line.probe: line.total for line in report.lines}
    for name in (
        "an answer that needs all memory",
        "an answer with ten thousand terms",
        "several answers",
        "a denied answer",
    ):
        assert cheats[name] == 0.0
    assert (
        "rewards.right cannot read the gold answer of 1 of the first 5 problems and abstains there, first '?!'"
        in report.text()
    )
