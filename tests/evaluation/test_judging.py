from collections.abc import Mapping

import pytest

from r1exp.evaluation.judging import Judging
from r1exp.evaluation.settings import JudgeName
from r1exp.judgement.judgement import Judgement
from r1exp.records import Completion, Problem
from r1exp.rewards.accuracy import Accuracy
from r1exp.rewards.advice import evaluating_member
from r1exp.rewards.base import Context, Reward, Score, Span
from r1exp.rewards.graded import Graded
from r1exp.rewards.strict import Strict
from r1exp.rewards.vote_partial import VotePartial

STYLE = "think_answer"


class Even(Reward):
    """Judges correctness in its own way: an even number is right."""

    kind: str = "even"
    judges_correctness = True

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        return float(int(completion.text[-1]) % 2 == 0)


def judged(judge: JudgeName, text: str, gold: str, rewards: Mapping[str, Reward] | None = None) -> Judgement:
    judging = Judging(judge, STYLE, rewards)
    (found,) = judging.judge([Problem("p", "?", gold)], [Completion(text, 9)])
    judging.close()
    return found


@pytest.mark.parametrize(
    ("judge", "text", "how"),
    [
        pytest.param("accuracy", "<answer>42.0</answer>", "equal numbers", id="the same value"),
        pytest.param("strict", "<answer>42.0</answer>", None, id="another text"),
        pytest.param("strict", "<answer>42</answer>", "exact text", id="the same text"),
        pytest.param("accuracy", "<answer>7</answer> so 42", None, id="the answer in its place"),
        pytest.param(
            "accuracy_then_last_number",
            "<answer>7</answer> so 42",
            "equal numbers, the last number",
            id="the last number",
        ),
        pytest.param(
            "accuracy_then_last_number", "<answer>42</answer> not 7", "equal numbers", id="its place first"
        ),
        pytest.param("accuracy_then_last_number", "<answer>7</answer> so 8", None, id="neither"),
        pytest.param("reward", "it is 42", "equal numbers", id="no rewards"),
    ],
)
def test_the_named_judge_decides(judge: JudgeName, text: str, how: str | None) -> None:
    found = judged(judge, text, "42")
    assert (found.how if found.is_correct else None) == how


def test_the_member_that_judges_correctness_judges_held_out_answers() -> None:
    rewards = {"even": Even()}
    assert judged("reward", "44", "42", rewards).how == "rewards.even: 1"
    assert judged("accuracy", "44", "42", rewards).verdict == "wrong"


@pytest.mark.parametrize(
    ("rewards", "member"),
    [
        pytest.param({}, None, id="none"),
        pytest.param(
            {"a": Graded(style=STYLE), "b": Even(weight=0.5)}, None, id="graded has the largest weight"
        ),
        pytest.param({"a": Strict(style=STYLE)}, None, id="strict"),
        pytest.param({"a": VotePartial(style=STYLE)}, None, id="a vote"),
        pytest.param({"a": Accuracy(style=STYLE)}, None, id="accuracy"),
        pytest.param({"a": Accuracy(style=STYLE, answers="text")}, "a", id="accuracy with words"),
        pytest.param({"a": Accuracy(style=STYLE, read="boxed")}, "a", id="accuracy in a box"),
        pytest.param({"a": Strict(style=STYLE), "b": Even(weight=2.0)}, "b", id="one of its own"),
    ],
)
def test_accuracys_judge_stands_for_all_members_that_compare_values(
    rewards: dict[str, Reward], member: str | None
) -> None:
    assert evaluating_member(rewards) == member


def test_problems_whose_gold_answer_cannot_be_read_are_known_beforehand() -> None:
    judging = Judging("reward", STYLE)
    problems = [Problem("a", "?", "42"), Problem("b", "?", "?!"), Problem("c", "?", r"\text{Evelyn}")]
    assert judging.readable(problems) == [True, False, True]
    judging.close()
