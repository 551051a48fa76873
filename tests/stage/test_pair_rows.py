"""Preference pairs from scored answers, and the rows that trainers read."""

from typing import Any

import pytest

from r1exp.prompt.settings import PromptSettings
from r1exp.records import Problem
from r1exp.stage.make_pairs import pair_of
from r1exp.stage.pair_rows import pair_row
from r1exp.stage.sample_answers import pass_rate


def answers(*rewards: float | None) -> dict[str, Any]:
    return {
        "prompt": "?",
        "answers": [{"text": f"a{n}", "reward": reward} for n, reward in enumerate(rewards)],
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
    pair = pair_of(answers(*rewards), min_margin)
    assert (pair and (pair["chosen"], pair["rejected"])) == expected


def test_a_blank_answer_is_left_out() -> None:
    row = answers(2.0, 1.0, 0.0)
    row["answers"][2]["text"] = " "
    pair = pair_of(row, 0.0)
    assert pair is not None
    assert pair["rejected"] == "a1"


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
