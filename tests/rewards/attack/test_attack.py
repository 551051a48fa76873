"""`r1exp check --attack` finds the exploits that were planted, and none where there is none."""

from dataclasses import replace
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.errors import Refused
from r1exp.records import Problem
from r1exp.rewards.attack.attack import attack
from r1exp.rewards.attack.report import AttackReport
from r1exp.rewards.attack.scoring import CHARACTERS_PER_TOKEN
from r1exp.rewards.choice import Choice
from r1exp.rewards.function import Function
from r1exp.rewards.graded import Graded
from r1exp.rewards.lengths import Cosine, KimiLength
from r1exp.rewards.strict import Strict
from r1exp.rewards.tags import Format, XmlCount
from r1exp.rewards.vote_partial import VotePartial
from tests.rewards.attack import planted
from tests.rewards.attack.planted import PLANTED, STYLE

SUMS = [(3, 4, 5), (17, 2, 9), (8, 8, 8), (1, 15, 6), (12, 13, 14), (20, 1, 2)]
PROBLEMS = [
    Problem(
        f"sum-{a}",
        f"Ann has {a} apples, buys {b} and finds {c}. How many?",
        str(a + b + c),
        {"solution": f"{a} + {b} = {a + b}. {a + b} + {c} = {a + b + c}"},
    )
    for a, b, c in SUMS
]
FAST = "the answer is searched in gold"
SLOW = (
    "a program passes if it exits with 0",
    "words that mark steps",
    "Chinese characters",
    "a low confidence in a wrong answer",
    "flattery",
    "the number of tags",
)


def attacked(name: str) -> AttackReport:
    return attack(PLANTED[name].committee(), STYLE, PROBLEMS, seconds=60)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in PLANTED]
)
def test_a_planted_exploit_is_found_with_the_member_that_it_is_in(name: str) -> None:
    report = attacked(name)
    needs = PLANTED[name].needs
    found = [
        exploit
        for exploit in report.exploits
        if any(need in deviation for need in needs for deviation in (*exploit.deviations, *exploit.also))
    ]
    assert found, report.text()
    assert next(iter(found[0].scored_by)) == "planted"
    assert found[0].closed_by


def test_committees_that_judge_exactly_have_no_exploit() -> None:
    for committee in (
        {"strict": Strict(style=STYLE), "format": Format(style=STYLE)},
        {"graded": Graded(style=STYLE), "xml_count": XmlCount(style=STYLE)},
        {"vote_partial": VotePartial(style=STYLE), "format": Format(style=STYLE)},
    ):
        report = attack(committee, STYLE, PROBLEMS, seconds=20)
        assert report.ok, report.text()
        assert report.gold > report.mistake
        assert report.num_strategies > 100


def test_an_incentive_for_long_wrong_answers_is_an_exploit() -> None:
    """With the signs of open-r1, a wrong answer loses less the longer it is."""
    cosine = Cosine(judged_by="strict", max_length=500, wrong_short=-1.0, wrong_long=-0.5)
    report = attack({"strict": Strict(style=STYLE), "cosine": cosine}, STYLE, PROBLEMS, seconds=20)
    assert [list(exploit.scored_by) for exploit in report.exploits] == [["cosine"]]
    cosine = Cosine(judged_by="strict", max_length=500, wrong_short=-0.5, wrong_long=-1.0)
    report = attack({"strict": Strict(style=STYLE), "cosine": cosine}, STYLE, PROBLEMS, seconds=20)
    assert report.ok, report.text()


def test_strategies_finish_within_the_limit_of_a_completion() -> None:
    """Text that needs more than the limit is shortened before it is wrapped in the prompt's template."""
    committee = {"mine": Function(kind=f"{planted.__name__}:reflection"), "format": Format(style=STYLE)}
    report = attack(committee, STYLE, PROBLEMS, most_tokens=40)
    assert [exploit.deviations for exploit in report.exploits] == [("reasoning: words that mark reflection",)]
    assert len(report.exploits[0].example) <= 40 * CHARACTERS_PER_TOKEN
    assert report.exploits[0].example.endswith("</answer>")


def test_a_wrong_answer_longer_than_gold_is_not_what_a_short_one_is_compared_with() -> None:
    committee = {"strict": Strict(style=STYLE), "length": KimiLength(judged_by="strict")}
    short = [replace(problem, columns={"solution": "1"}) for problem in PROBLEMS]
    report = attack(committee, STYLE, short, seconds=20)
    assert report.ok, report.text()


def test_the_right_letter_by_luck_is_no_exploit() -> None:
    options = {"choices": ["Rome", "Paris", "Oslo", "Bern"]}
    problems = [Problem(f"p{gold}", "Which city?", str(gold % 4), options) for gold in range(8)]
    committee = {"choice": Choice(style=STYLE, options="choices"), "format": Format(style=STYLE)}
    report = attack(committee, STYLE, problems, seconds=20)
    assert report.ok, report.text()


def test_the_same_seed_finds_the_same_exploits() -> None:
    first, second = attacked(FAST), attacked(FAST)
    assert [exploit.deviations for exploit in first.exploits] == [
        exploit.deviations for exploit in second.exploits
    ]
    assert first.num_strategies == second.num_strategies


def test_a_committee_whose_right_answers_gain_nothing_is_noted() -> None:
    report = attack({"format": Format(style=STYLE)}, STYLE, PROBLEMS, seconds=5)
    assert report.ok
    assert "a wrong answer scores as much as a right one" in report.text()


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(Refused, match="no problem to attack"):
        attack({"strict": Strict(style=STYLE)}, STYLE, [])


def test_the_command_prints_the_exploit_first_and_exits_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = (
        "def score(completions, answer, **columns):\n"
        "    found = [c[0]['content'].split('<answer>')[-1].split('</answer>')[0] for c in completions]\n"
        "    return [float(text in gold) for text, gold in zip(found, answer)]\n"
    )
    (tmp_path / "searched_in_gold.py").write_text(source)
    mine = "rewards=strict", "rewards.strict.weight=0", "+rewards.mine={kind: 'searched_in_gold:score'}"
    assert main(["check", *mine]) == 0
    assert main(["check", "--attack", *mine]) == 2
    printed = capsys.readouterr().out
    assert "rl: EXPLOIT 1 scores 2: answer: an empty answer" in printed
    assert "rewards.mine gives 1" in printed
    assert main(["check", "--attack", "rewards=strict"]) == 0
    assert "no exploit found" in capsys.readouterr().out
