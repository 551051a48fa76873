"""stage=generate: what is kept and in which form, what is counted, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.errors import StepFailed
from r1exp.files import read_json
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.report.answers import rows_of
from r1exp.stage.generate import Generate
from r1exp.stage.generate_answers import _labelled, _save
from r1exp.stage.spending import BudgetSpent, Spending
from r1exp.stage.step import Step

THINK = style_named("think_answer")
GOLD = Problem("p", "1 + 2?", "3", {"solution": "old", "topic": "sums"})
OPEN = Problem("q", "Write a line.", None, {"topic": "verse"})


def stage(**changes: Any) -> Generate:
    values: dict[str, Any] = {
        "kind": "generate", "samples": 1, "num_problems": None, "top_p": 1.0, "only_finished": True, "only_right": True,
        "min_reward": None, "price_input": None, "price_output": None, "budget_tokens": None, "budget_money": None,
    }  # fmt: skip
    return Generate.model_validate(values | changes)


def verdict(right: bool | None, reward: float | None = None) -> dict[str, Any]:
    return {"reward": reward, "right": right, "read": "3", "how": "equal numbers"}


def labelled(
    problem: Problem,
    text: str,
    right: bool | None,
    finished: bool = True,
    reward: float | None = None,
    **changes: Any,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    completion = Completion(text, 5, finished, num_prompt_tokens=7)
    (row,) = _labelled(problem, [completion], [verdict(right, reward)], stage(**changes), THINK)
    return row


def test_a_right_answer_becomes_a_row_with_its_reasoning_as_the_solution() -> None:
    answer, row = labelled(GOLD, "<think>1 + 2 = 3</think>\n<answer>3</answer>", True)
    assert row == {
        "id": "p", "question": "1 + 2?", "answer": "3", "solution": "1 + 2 = 3", "topic": "sums", "pass_rate": 1.0,
    }  # fmt: skip
    assert (answer["reasoning"], answer["text"]) == ("1 + 2 = 3", "<answer>3</answer>")
    assert (answer["num_prompt_tokens"], answer["num_tokens"], answer["finish_reason"]) == (7, 5, "stop")


def test_without_reasoning_the_solution_is_the_text() -> None:
    _, row = labelled(GOLD, "One and two make 3.", True)
    assert row is not None and (row["solution"], row["answer"]) == ("One and two make 3.", "3")


def test_without_a_gold_answer_the_answer_that_was_read_is_the_label() -> None:
    _, row = labelled(OPEN, "<think>hm</think><answer>a line</answer>", None)
    assert row == {
        "id": "q",
        "question": "Write a line.",
        "answer": "a line",
        "solution": "hm",
        "topic": "verse",
    }


def test_without_any_answer_the_row_is_a_chat() -> None:
    _, row = labelled(OPEN, "<think>hm</think>\nIn 1990 it rained.", None)
    assert row == {
        "id": "q",
        "topic": "verse",
        "messages": [
            {"role": "user", "content": "Write a line."},
            {"role": "assistant", "content": "<think>hm</think>\nIn 1990 it rained."},
        ],
    }


def test_a_solution_that_would_be_read_back_as_another_answer_is_a_chat() -> None:
    _, row = labelled(GOLD, "<think>is it <answer>4</answer>?</think><answer>3</answer>", True)
    assert row is not None and "messages" in row and row["answer"] == "3" and "question" not in row


def test_a_wrong_answer_that_is_kept_is_no_solution_of_the_gold_answer() -> None:
    _, row = labelled(GOLD, "<think>1 + 2 = 4</think><answer>4</answer>", False, only_right=False)
    assert row is not None and row["answer"] == "3" and "solution" not in row
    assert row["messages"][-1]["content"] == "<think>1 + 2 = 4</think><answer>4</answer>"


@pytest.mark.parametrize(
    ("text", "right", "finished", "reward", "changes", "expected"),
    [
        pytest.param("4", False, True, None, {}, "wrong", id="wrong"),
        pytest.param("4", False, True, None, {"only_right": False}, None, id="wrong, but wanted"),
        pytest.param("a line", None, True, None, {}, None, id="without gold nothing is wrong"),
        pytest.param("3", True, False, None, {}, "cut", id="cut"),
        pytest.param("3", True, False, None, {"only_finished": False}, None, id="cut, but wanted"),
        pytest.param("3", True, True, 0.9, {"min_reward": 1.0}, "low_reward", id="below the bound"),
        pytest.param("3", True, True, 1.0, {"min_reward": 1.0}, None, id="at the bound"),
        pytest.param("3", True, True, None, {"min_reward": 1.0}, "low_reward", id="not scored"),
        pytest.param("<think>3</think> ", True, True, None, {}, "empty", id="only reasoning"),
    ],
)
def test_an_answer_is_kept_or_dropped_for_a_reason(
    text: str,
    right: bool | None,
    finished: bool,
    reward: float | None,
    changes: dict[str, Any],
    expected: str | None,
) -> None:
    answer, row = labelled(GOLD, text, right, finished, reward, **changes)
    assert answer["dropped"] == expected
    assert (row is None) == (expected is not None)


def test_several_answers_have_ids_of_their_own(tmp_path: Path) -> None:
    several = stage(samples=2)
    group = [
        Completion("<think>a</think><answer>3</answer>", 100, num_prompt_tokens=50),
        Completion("4", 300, num_prompt_tokens=50),
    ]
    rows = _labelled(GOLD, group, [verdict(True), verdict(False)], several, THINK)
    _save([rows], tmp_path / "artifact")
    assert [row["id"] for row in rows_of(tmp_path / "artifact" / "answers.jsonl")] == ["p-0", "p-1"]
    (kept,) = rows_of(tmp_path / "artifact" / "data.jsonl")
    assert (kept["id"], kept["pass_rate"]) == ("p-0", 0.5)
    assert read_json(tmp_path / "artifact" / "facts.json") == {
        "unit": "answers", "num_rows": 2, "num_kept": 1, "num_chats": 0, "num_with_reasoning": 1, "dropped": {"wrong": 1}, "pass_rate": 0.5,
        "num_prompt_tokens": 100, "num_tokens": 400, "num_questions": 1,
        "num_questions_kept": 1,
    }  # fmt: skip


def completions(number: int, prompt_tokens: int | None = 100) -> list[Completion]:
    return [Completion("a", 50, num_prompt_tokens=prompt_tokens)] * number


def test_a_budget_of_tokens_ends_the_step_when_it_is_reached() -> None:
    spending = Spending(stage(budget_tokens=450))
    spending.begin(None, num_answers=10, num_ranks=1)
    spending.add(completions(2))
    with pytest.raises(
        BudgetSpent,
        match=r"450 tokens for 3 of 10 answers, and stage.budget_tokens=450; the answers are kept",
    ):
        spending.add(completions(1))


def test_a_budget_of_money_counts_both_prices() -> None:
    spending = Spending(stage(price_input=1.0, price_output=2.0, budget_money=0.0006))
    spending.begin(None, num_answers=10, num_ranks=1)
    spending.add(completions(2))
    assert spending.cost == pytest.approx(0.0004)
    with pytest.raises(BudgetSpent, match=r"stage.budget_money=0.0006"):
        spending.add(completions(1))


def test_a_budget_that_the_last_answer_reaches_ends_nothing() -> None:
    spending = Spending(stage(budget_tokens=450))
    spending.begin(None, num_answers=3, num_ranks=1)
    spending.add(completions(3))


def test_each_rank_has_its_share_of_the_budget() -> None:
    spending = Spending(stage(budget_tokens=600))
    spending.begin(None, num_answers=10, num_ranks=2)
    spending.add(completions(1))
    with pytest.raises(BudgetSpent, match="1/2 of it for each process"):
        spending.add(completions(1))


def test_money_cannot_be_counted_where_prompts_are_not() -> None:
    free, paid = Spending(stage()), Spending(stage(price_input=1.0, price_output=1.0))
    free.add(completions(1, prompt_tokens=None))
    with pytest.raises(StepFailed, match=r"usage.prompt_tokens"):
        paid.add(completions(1, prompt_tokens=None))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        pytest.param(
            ["stage.budget_money=5"], "give stage.price_input and stage.price_output", id="no prices"
        ),
        pytest.param(["stage.price_input=1"], "give stage.price_output too", id="one price"),
        pytest.param(
            ["stage.price_input=0", "stage.price_output=0", "stage.budget_money=5"], "never spent", id="free"
        ),
        pytest.param(["stage.min_reward=1"], "there are none; choose some", id="a bound without rewards"),
        pytest.param(
            ["rewards=graded", "stage.min_reward=99"], "more than any answer can get", id="beyond the best"
        ),
        pytest.param(["stage.samples=0"], "stage.samples", id="no samples"),
        pytest.param(["stage.top_p=0"], "stage.top_p", id="nothing to sample from"),
    ],
)
def test_nonsense_is_refused_before_anything_runs(
    overrides: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "stage=generate", *overrides]) == 2
    assert sentence in capsys.readouterr().err


def test_the_plan_says_how_many_questions_and_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    prices = ["stage.price_input=0", "stage.price_output=10", "max_completion_length=1000"]
    assert main(["plan", "stage=generate", "stage.num_problems=200", "stage.samples=2", *prices]) == 0
    shown = capsys.readouterr().out
    assert "200 questions" in shown and "2 answers each, costs at most about 4.00" in shown


def test_a_budget_is_no_part_of_the_key_and_a_bound_is(frozen: Callable[..., Step]) -> None:
    key = frozen("stage=generate").key
    assert (
        frozen("stage=generate", "stage.budget_tokens=5", "stage.price_input=1", "stage.price_output=1").key
        == key
    )
    assert frozen("stage=generate", "stage.only_right=false").key != key
    limits = ["rollout.requests_per_minute=5", "rollout.tokens_per_minute=500"]
    endpoint = ["stage=generate", "rollout=endpoint", "rollout.model=x"]
    assert frozen(*endpoint).key == frozen(*endpoint, *limits).key
