"""The judge gives every pair of pairs.txt its verdict, and rewards and evaluations give the same one."""

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from r1exp.evaluation.judging import Judging
from r1exp.judgement import judge as judge_rules
from r1exp.judgement.formatting import plain
from r1exp.judgement.judge import decided
from r1exp.records import Completion, Problem
from r1exp.rewards.accuracy import Accuracy
from r1exp.rewards.base import Abstain, Context
from r1exp.rewards.bounded_judge import AnswerJudge
from r1exp.rewards.committee import Committee
from r1exp.rewards.graded import Graded

sys.path.insert(0, str(Path(__file__).parent))
from pairs import Pair, mutated, pairs  # type: ignore[import-not-found]

STYLE = "think_answer"
DECIDED = [row for row in pairs() if decided(row.answer, row.gold) is not None]


@pytest.fixture
def judge() -> Iterator[AnswerJudge]:
    judge = AnswerJudge(num_workers=2)
    yield judge
    judge.close()


def test_the_table_has_600_pairs_that_differ() -> None:
    rows = pairs()
    assert len(rows) >= 600
    assert len({(row.gold, row.answer) for row in rows}) == len(rows)
    assert {row.verdict for row in rows} == {"correct", "wrong", "unreadable answer", "unreadable gold"}


def test_pairs_that_need_no_process_have_their_verdict() -> None:
    assert len(DECIDED) >= 660
    wrong = [(row, decided(row.answer, row.gold)) for row in DECIDED]
    assert [(row, found) for row, found in wrong if found is None or found.verdict != row.verdict] == []


@pytest.mark.slow
def test_every_pair_has_its_verdict(judge: AnswerJudge) -> None:
    rows = pairs()
    found = judge.judge([(row.answer, row.gold) for row in rows])
    assert [(row, each) for row, each in zip(rows, found, strict=True) if each.verdict != row.verdict] == []


@pytest.mark.slow
def test_rewards_and_evaluations_agree_on_every_pair_and_on_10000_mutated_ones() -> None:
    draw = random.Random(11)
    rows = pairs()
    mutations = [row._replace(answer=mutated(row, draw)) for row in draw.choices(rows, k=10_000)]
    assert agreements([*rows, *mutations]) == len(rows) + 10_000


def test_rewards_and_evaluations_agree_on_pairs_that_need_no_process() -> None:
    rows = DECIDED[::3]
    assert agreements(rows) == len(rows)


def agreements(rows: Sequence[Pair]) -> int:
    """Return on how many rows accuracy, graded and an evaluation agree."""
    problems = [Problem(f"p{number}", "?", row.gold) for number, row in enumerate(rows)]
    completions = [Completion(f"<think>so</think><answer>{row.answer}</answer>", 9) for row in rows]
    committee = Committee({"accuracy": Accuracy(style=STYLE), "graded": Graded(style=STYLE)}, num_workers=2)
    scores = committee.score(problems, completions, Context())
    committee.close()
    judging = Judging("reward", STYLE)
    judged = judging.judge(problems, completions)
    judging.close()
    num_equal = 0
    for accuracy, graded, judgement in zip(scores["accuracy"], scores["graded"], judged, strict=True):
        if judgement.verdict == "unreadable gold":
            num_equal += isinstance(accuracy, Abstain) and not (isinstance(graded, float) and graded < 2.0)
        else:
            num_equal += accuracy == float(judgement.is_correct) and (graded != 0.0) == judgement.is_correct
    return num_equal


def test_formulas_are_compared_the_same_way_round_and_the_other() -> None:
    sections = (
        "fractions",
        "roots and powers",
        "expressions",
        "equations",
        "points and lists",
        "sets",
        "intervals",
        "matrices",
    )
    text = (Path(__file__).parent / "pairs.txt").read_text(encoding="utf-8")
    chosen = [part for part in text.split("## ") if part.split("\n")[0] in sections]
    golds = {line for part in chosen for line in part.splitlines()}
    rows = [
        row
        for row in DECIDED
        if row.verdict in ("correct", "wrong")
        and f"{row.verdict} ¦ {row.gold} ¦ {row.answer} ¦ {row.why}" in golds
    ]
    assert len(rows) > 200
    turned = [(row, decided(row.gold, row.answer)) for row in rows]
    assert [(row, found) for row, found in turned if found is not None and found.verdict != row.verdict] == []


WRAPPERS = (
    "**{}**",
    "${}$",
    r"\boxed{{{}}}",
    " {}\n",
    "The answer is {}.",
    "答案是{}",
    "Final answer: **{}**",
    r"\({}\)",
)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_formatting_never_changes_the_verdict(wrapper: str) -> None:
    rows = [
        row for row in DECIDED if row.verdict != "unreadable gold" and plain(row.answer) == row.answer.strip()
    ]
    rows = [
        row
        for row in rows
        if not any(sign in row.answer for sign in ("$", "`", "#", "**"))
        and row.answer.count("{") == row.answer.count("}")
    ]
    assert len(rows) > 350
    wrapped = [(row, decided(wrapper.format(row.answer), row.gold)) for row in rows]
    assert [
        (row, found)
        for row, found in wrapped
        if found is None or found.is_correct != (row.verdict == "correct")
    ] == []


def test_the_quick_path_for_common_numbers_agrees_with_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(9)
    asked = [(mutated(row, draw), row.gold) for row in draw.choices(pairs(), k=12_000)]
    quick = {pair: found for pair in asked if (found := judge_rules._common(*pair)) is not None}
    assert len(quick) > 100
    monkeypatch.setattr(judge_rules, "_common", lambda answer, gold: None)
    slow = {pair: decided(*pair) for pair in quick}
    assert [
        pair for pair, found in slow.items() if found is None or found.is_correct != quick[pair].is_correct
    ] == []
