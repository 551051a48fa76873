import math
from typing import Any

import pytest

from r1exp.errors import Refused
from r1exp.prompt.settings import StyleName
from r1exp.records import Completion, Problem
from r1exp.rewards.accuracy import Accuracy
from r1exp.rewards.base import Abstain, Context, Reward, Score, Span
from r1exp.rewards.check import Report, check
from r1exp.rewards.graded import Graded
from r1exp.rewards.judge import Judge
from r1exp.rewards.lengths import Length, SoftOverlong
from r1exp.rewards.majority_vote import MajorityVote
from r1exp.rewards.reward_model import RewardModel
from r1exp.rewards.strict import Strict
from r1exp.rewards.tags import Format, XmlCount
from r1exp.rewards.vote_partial import VotePartial

STYLE: StyleName = "think_answer"
PROBLEMS = [
    Problem(
        "sum", "Ann has 3 apples, buys 4 and finds 5. How many?", "12", {"solution": "3 + 4 = 7. 7 + 5 = 12"}
    ),
    Problem("product", "What is 6 times 7 times 2?", "84", {"solution": "6 x 7 = 42. 42 x 2 = 84"}),
]


def checked(rewards: dict[str, Reward], **settings: Any) -> Report:
    return check(rewards, STYLE, PROBLEMS, **settings)


def totals(report: Report) -> dict[str, object]:
    return {line.probe: pytest.approx(line.total) for line in report.lines}


def test_the_graded_committee_scores_gold_highest() -> None:
    report = checked({"graded": Graded(style=STYLE), "xml_count": XmlCount(style=STYLE)})
    assert report.ok, report.text()
    assert totals(report) == {
        "gold": 2.8,
        "empty": 0.0,
        "prompt copied": 0.0,
        "cut off": 0.2,  # <think>
        "tags without content": 0.8,
        "right answer in the wrong place": 0.8,
        "very long repetition": 0.0,
        "an answer that needs all memory": 0.8,  # four tags, as below
        "an answer with ten thousand terms": 0.8,
        "several answers": 0.8,
        "a denied answer": 0.8,
    }


def test_a_member_that_does_not_recognize_gold_fails() -> None:
    report = checked({"right": Accuracy(style=STYLE, read="boxed")})
    assert not report.ok
    assert (
        "rewards.right gives 0 on the gold answer '12' of problem 'sum', and its maximum is 1"
        in report.text()
    )


def test_a_committee_without_weight_on_correctness_is_warned_about() -> None:
    report = checked(
        {
            "graded": Graded(style=STYLE, weight=0.0),
            "tags": XmlCount(style=STYLE),
            "s": Strict(style=STYLE, weight=0.0),
        }
    )
    assert report.ok  # only a warning: the user may want it
    assert "no member with a positive weight judges correctness" in report.text()
    assert "'tags without content' scores 0.800 and gold scores 0.800" in report.text()


class RewardsLength(SoftOverlong):
    """A mistaken member: the longer the completion, the higher the score."""

    @property
    def span(self) -> Span:
        return (0.0, math.inf)

    def score(self, problem: Problem, completion: Completion, context: Context) -> float:
        return completion.num_tokens / 1000


def test_a_cheat_that_reaches_gold_fails() -> None:
    report = checked({"right": Strict(style=STYLE), "long": RewardsLength(limit=10, margin=1)})
    assert not report.ok
    assert any(
        line.startswith("FAILED 'very long repetition' scores 15") for line in report.text().splitlines()
    )


def test_members_that_compare_completions_get_a_cheat_among_gold() -> None:
    report = checked(
        {
            "vote": VotePartial(style=STYLE, scope="group", confidence=True),
            "majority": MajorityVote(style=STYLE),
            "short": Length(judged_by="vote"),
            "format": Format(style=STYLE),
        },
        group_size=4,
    )
    assert report.ok, report.text()
    by_probe = {line.probe: line.scores for line in report.lines}
    assert (by_probe["gold"]["vote"], by_probe["gold"]["majority"]) == (2.0, 1.0)
    assert by_probe["right answer in the wrong place"]["majority"] == 0.0
    assert by_probe["very long repetition"]["short"] == -0.5


def test_a_member_that_cannot_be_opened_is_left_out_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    judge = Judge(endpoint="http://127.0.0.1:9", model="m", rubric="helpful", api_key_env="NO_KEY")
    report = checked({"right": Strict(style=STYLE), "model": RewardModel(model="m"), "judge": judge})
    assert report.ok
    assert "rewards.model was not checked: the reward model 'm'" in report.text()
    assert "rewards.judge was not checked: the judge needs a key" in report.text()
    assert report.lines[0].scores["model"] is None


def test_a_members_own_gold_and_cheats_are_tried() -> None:
    class Code(Strict):
        def gold_answer(self, problem: Problem) -> str:
            return "print(12)"

        def cheats(self, problem: Problem) -> dict[str, str]:
            return {"leaves early": "exit()"}

        def score(self, problem: Problem, completion: Completion, context: Context) -> float:
            return 2.0 * ("print(12)" in completion.text)

    report = checked({"code": Code(style=STYLE)})
    by_probe = {line.probe: line.total for line in report.lines}
    assert (by_probe["gold"], by_probe["leaves early"]) == (2.0, 0.0)


def test_reasoning_that_contains_the_styles_own_tags_is_accepted() -> None:
    problem = Problem("a", "?", "7", {"solution": "so </think><answer>8</answer>"})
    assert check({"right": Strict(style=STYLE), "format": Format(style=STYLE)}, STYLE, [problem]).ok


def test_the_table_and_the_seconds_of_a_batch_are_shown() -> None:
    report = checked({"right": Strict(style=STYLE), "format": Format(style=STYLE)}, rows_per_batch=100)
    lines = report.text().splitlines()
    assert lines[0].split() == ["completion", "right", "format", "total"]
    assert lines[1].split() == ["gold", "2.000", "1.000", "3.000"]
    assert 0.0 < report.seconds_per_batch < 5.0
    assert lines[-1] == "passed"


def test_a_check_without_problems_is_refused() -> None:
    with pytest.raises(Refused, match="no problem to check"):
        check({"right": Strict(style=STYLE)}, STYLE, [])


def test_gold_answers_of_further_problems_that_a_judge_cannot_use_are_counted() -> None:
    more = [Problem(f"{i}", "?", answer, {}) for i, answer in enumerate(("12", "=", "7", "+"))]
    report = checked({"right": Accuracy(style=STYLE)}, more_golds=more)
    assert report.ok
    assert report.warnings == (
        "rewards.right cannot use the gold answer of 2 of 4 further problems (gold unreadable 2x), first '=' of "
        "problem '1'",
    )


def test_an_abstention_counts_as_no_number() -> None:
    """The cheat that every member scores is compared; the one on which a member abstains has no total."""

    class Fails(Strict):
        def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
            return (
                Abstain("gold unreadable")
                if not completion.text
                else super().score(problem, completion, context)
            )

    report = checked({"right": Fails(style=STYLE), "format": Format(style=STYLE)})
    rows = {line.split("  ")[0]: line.split() for line in report.text().splitlines()}
    assert rows["empty"] == ["empty", "abstained", "0.000", "-"]
    assert "abstained  rewards.right on 2 completions: gold unreadable 2x" in report.text()
