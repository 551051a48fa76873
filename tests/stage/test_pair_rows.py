"""Preference pairs from scored answers, and the rows that trainers read."""

from typing import Any

import pytest

from r1exp.prompt.settings import PromptSettings
from r1exp.records import Problem
from r1exp.stage.make_pairs import pairs_of, statistics_of
from r1exp.stage.pair_rows import pair_row
from r1exp.stage.preferences import Preferences
from r1exp.stage.sample_answers import pass_rate


def preferences(min_margin: float = 0.0, **changes: Any) -> Preferences:
    return Preferences(kind="preferences", samples=None, min_margin=min_margin, num_pairs=None, **changes)


def texts(rows: list[dict[str, Any]], stage: Preferences) -> list[tuple[str, str]]:
    return [(chosen["text"], rejected["text"]) for _, (chosen, rejected) in pairs_of(rows, stage)]


def answers(*rewards: float | None) -> dict[str, Any]:
    return {
        "prompt": "?",
        "answers": [{"text": f"a{n}", "reward": reward, "num_tokens": 1} for n, reward in enumerate(rewards)],
    }


@pytest.mark.parametrize(
    ("rewards", "min_margin", "expected"),
    [
        pytest.param([0.5, 2.0, -1.0], 0.0, ("a1", "a2"), id="best against worst"),
        pytest.param([2.0, 2.0, 0.0, 0.0], 0.0, ("a0", "a2"), id="the first of equals"),
        pytest.param([1.0, 1.0], 0.0, None, id="equal rewards"),
        pytest.param([1.0, 0.5], 0.6, None, id="margin too small"),
        pytest.param([1.0, None, 0.0], 0.0, ("a0", "a2"), id="an answer without a reward"),
        pytest.param([None, 1.0], 0.0, None, id="a single scored answer"),
    ],
)
def test_a_pair_is_the_best_and_the_worst_answer(
    rewards: list[float | None], min_margin: float, expected: tuple[str, str] | None
) -> None:
    assert texts([answers(*rewards)], preferences(min_margin)) == ([] if expected is None else [expected])


def test_a_blank_answer_is_left_out() -> None:
    row = answers(2.0, 1.0, 0.0)
    row["answers"][2]["text"] = " "
    assert texts([row], preferences()) == [("a0", "a1")]


def test_several_pairs_of_a_problem_share_no_answer() -> None:
    row = answers(0.0, 3.0, 1.0, 2.0, 2.5)
    assert texts([row], preferences(pairs_per_problem=2)) == [("a1", "a0"), ("a4", "a2")]
    assert texts([row], preferences(pairs_per_problem=9)) == [("a1", "a0"), ("a4", "a2")]
    assert texts([row], preferences(2.0, pairs_per_problem=9)) == [("a1", "a0")]


def test_balanced_pairs_are_not_longer_where_they_are_chosen() -> None:
    """The best answer is the longest in every problem; nearly as good ones are short."""
    lengths = [100, 10, 60, 20]
    rows = [answers(1.0, 0.9, 0.0, 0.1) for _ in range(20)]
    for row in rows:
        row["answers"] = [
            each | {"num_tokens": size} for each, size in zip(row["answers"], lengths, strict=True)
        ]
    plain, balanced = (
        statistics_of([pair for _, pair in pairs_of(rows, preferences(0.5, balance_lengths=balances))])
        for balances in (False, True)
    )
    assert (plain["share_chosen_longer"], plain["mean_tokens_chosen"], plain["mean_tokens_rejected"]) == (
        1.0,
        100.0,
        60.0,
    )
    assert abs(balanced["mean_tokens_chosen"] - balanced["mean_tokens_rejected"]) < 2.0
    assert 0.1 < balanced["share_chosen_longer"] < 0.6
    assert balanced["mean_margin"] >= 0.8


def test_balancing_gives_the_same_pairs_each_time_and_never_less_than_the_margin() -> None:
    rows = [answers(*[float((n * k) % 7) for k in range(1, 6)]) for n in range(30)]
    for n, row in enumerate(rows):
        row["answers"] = [
            each | {"num_tokens": (n * 13 + k * 29) % 50} for k, each in enumerate(row["answers"])
        ]
    stage = preferences(2.0, balance_lengths=True, pairs_per_problem=2)
    found = [pair for _, pair in pairs_of(rows, stage)]
    assert found == [pair for _, pair in pairs_of(rows, stage)]
    assert min(chosen["reward"] - rejected["reward"] for chosen, rejected in found) >= 2.0


@pytest.mark.parametrize(
    ("verdicts", "expected"), [([True, False, False, False], 0.25), ([None, None], None), ([True], 1.0)]
)
def test_pass_rate_is_the_share_of_correct_answers(
    verdicts: list[bool | None], expected: float | None
) -> None:
    assert pass_rate([{"right": verdict} for verdict in verdicts]) == expected


def test_the_policys_row_has_the_system_text_and_the_reward_models_has_none() -> None:
    pair = Problem("1", "1 + 1?", None, {"chosen": "2", "rejected": "3"})
    row = pair_row(pair, PromptSettings(style="plain", system="Be brief."))
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert pair_row(pair, None)["prompt"] == [{"role": "user", "content": "1 + 1?"}]
    assert (row["chosen"], row["rejected"]) == (
        [{"role": "assistant", "content": "2"}],
        [{"role": "assistant", "content": "3"}],
    )
