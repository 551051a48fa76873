"""Which sampled answers become rows of a data set, and what is counted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.config.experiment import Experiment
from r1exp.dataset.jsonl import Jsonl
from r1exp.errors import Refused
from r1exp.plan.steps import planned_steps
from r1exp.records import Problem
from r1exp.stage.sample import Sample
from r1exp.stage.selection import select, summary
from r1exp.stage.sft_rows import demonstrations


def sample(**changes: Any) -> Sample:
    return Sample(
        kind="sample", samples=4, num_problems=None, min_pass_rate=0.0, max_pass_rate=1.0, **changes
    )


def text(answer: str, thought: str = "so") -> str:
    return f"<think>{thought}</think>\n<answer>{answer}</answer>"


def answer(
    read: str, reward: float | None = 1.0, *, right: bool | None = True, thought: str = "so", **more: Any
) -> dict[str, Any]:
    return {
        "text": text(read, thought),
        "read": read,
        "reward": reward,
        "right": right,
        "finished": True,
        "scores": {},
    } | more


def row(name: str, answers: list[dict[str, Any]], gold: str | None = "3", **columns: Any) -> dict[str, Any]:
    right = [each["right"] for each in answers]
    rate = None if None in right else sum(right) / len(right)
    return {
        "id": name,
        "prompt": f"{name}?",
        "answer": gold,
        "columns": columns,
        "answers": answers,
        "pass_rate": rate,
    }


def ids(rows: list[dict[str, Any]], **settings: Any) -> list[str]:
    return [found["id"] for found in select(rows, sample(**settings), "think_answer").rows]


def dropped(
    answers: list[dict[str, Any]], *, gold: str | None = "3", language: str | None = None, **settings: Any
) -> dict[str, int]:
    columns = {} if language is None else {"language": language}
    found = select([row("p", answers, gold, **columns)], sample(**settings), "think_answer")
    left_out: dict[str, int] = found.facts["dropped"]
    return left_out


def test_the_best_correct_answer_is_kept_and_what_stays_unsolved_is_counted() -> None:
    rows = [
        row("solved", [answer("3", 1.0), answer("3", 2.0, thought="better"), answer("4", 9.0, right=False)]),
        row("unsolved", [answer("4", 0.0, right=False)] * 2),
    ]
    found = select(rows, sample(), "think_answer")
    assert [(each["id"], each["solution"]) for each in found.rows] == [("solved", text("3", "better"))]
    facts = found.facts
    assert (
        facts["num_problems"],
        facts["num_problems_kept"],
        facts["num_unsolved"],
        facts["num_written"],
    ) == (
        2,
        1,
        1,
        1,
    )
    assert facts["dropped"] == {"beyond_keep": 1, "wrong": 3}
    assert facts["num_rows"] == facts["num_kept"] + sum(facts["dropped"].values()) == 5
    assert "1 of 5 answers kept" in summary(facts) and "unsolved 1" in summary(facts)


def test_unsolved_problems_stay_where_rl_asks_for_them() -> None:
    rows = [
        row("solved", [answer("3")], topic="sums"),
        row("unsolved", [answer("4", right=False)], solution="old"),
    ]
    found = select(rows, sample(keep_unsolved=True), "think_answer")
    assert [each["id"] for each in found.rows] == ["solved", "unsolved"]
    assert found.facts["num_problems_kept"] == 2 and "solution" not in found.rows[1]


def test_several_answers_to_a_problem_are_rows_with_ids_of_their_own() -> None:
    rows = [
        row("p", [answer("3", reward, thought=f"{reward}") for reward in (1.0, 3.0, 2.0)]),
        row("q", [answer("3")]),
    ]
    assert ids(rows, keep=2) == ["p-1", "p-2", "q-1"]
    found = select(rows, sample(keep=2), "think_answer").rows
    assert [each["solution"] for each in found[:2]] == [text("3", "3.0"), text("3", "2.0")]


@pytest.mark.parametrize(
    ("distinct", "number"), [pytest.param("text", 3, id="texts"), pytest.param("answer", 2, id="answers")]
)
def test_the_same_text_is_kept_once_and_the_same_answer_where_asked(distinct: str, number: int) -> None:
    """Open questions have no gold answer; 3.0 and 3 are one answer."""
    answers = [
        answer(read, right=None, thought=thought)
        for read, thought in (("3", "a"), ("3", "a"), ("3.0", "b"), ("4", "c"))
    ]
    assert len(ids([row("p", answers, None)], keep=4, distinct=distinct)) == number
    assert dropped(answers, gold=None, keep=4, distinct=distinct) == {"repeated": 4 - number}


def test_rows_are_balanced_over_problems_and_the_hardest_come_first() -> None:
    easy = [answer("3", thought=f"{number}") for number in range(4)]
    hard = [answer("3", thought="x"), answer("3", thought="y"), *[answer("4", right=False)] * 2]
    rows = [row("easy", easy), row("hard", hard), row("easy too", easy)]
    assert ids(rows, keep=4, num_rows=4) == ["easy-1", "hard-1", "hard-2", "easy too-1"]
    assert ids(rows, keep=4, num_rows=2) == ["easy-1", "hard-1"]
    assert len(ids(rows, keep=4, num_rows=99)) == 10
    facts = select(rows, sample(keep=4, num_rows=2), "think_answer").facts
    assert (
        facts["dropped"] == {"beyond_num_rows": 8, "wrong": 2}
        and facts["num_kept"] == facts["num_problems_kept"] == 2
    )


@pytest.mark.parametrize(
    ("changes", "settings", "reason"),
    [
        pytest.param({"right": False}, {}, "wrong", id="wrong"),
        pytest.param({"finished": False}, {}, "cut", id="cut at the length limit"),
        pytest.param({"reward": 0.4}, {"min_reward": 0.5}, "low_reward", id="below the bound"),
        pytest.param({"reward": None}, {"min_reward": 0.5}, "low_reward", id="no reward"),
        pytest.param({"scores": {"judge": 0.2}}, {"bounds": {"judge": 0.5}}, "bound_judge", id="a judge's score"),
        pytest.param({"scores": {"judge": None}}, {"bounds": {"judge": 0.5}}, "bound_judge", id="no verdict"),
        pytest.param({"text": text("3", "one " * 30)}, {"max_paragraph": 20}, "long_paragraph", id="long paragraph"),
        pytest.param({"text": text("3", "\n```python\n1\n```\n")}, {"allow_code": False}, "code", id="code"),
        pytest.param({"text": "<answer> 3 <answer>"}, {}, "format", id="marks that would nest"),
        pytest.param({"text": "  "}, {}, "format", id="blank"),
    ],
)  # fmt: skip
def test_an_answer_is_left_out_and_counted(
    changes: dict[str, Any], settings: dict[str, Any], reason: str
) -> None:
    assert dropped([answer("3") | changes], **settings) == {reason: 1}
    assert dropped([answer("3") | {"scores": {"judge": 0.9}}], **settings) == {}


def test_a_member_that_does_not_apply_to_a_problem_bounds_nothing() -> None:
    assert dropped([answer("3")], bounds={"judge": 0.5}) == {}


ENGLISH = "First we add the three apples to the four pears, and then we count all of the fruit together."
CHINESE = "首先我们把三个苹果和四个梨加在一起，然后数一数所有的水果。"


@pytest.mark.parametrize(
    ("thought", "column", "default", "kept"),
    [
        pytest.param(ENGLISH, "en", None, True, id="English"),
        pytest.param(CHINESE, "zh", None, True, id="Chinese"),
        pytest.param(CHINESE, "en", None, False, id="Chinese for an English problem"),
        pytest.param(ENGLISH + CHINESE, "en", None, False, id="both"),
        pytest.param(CHINESE, None, "en", False, id="the language of the settings"),
        pytest.param(CHINESE, "python", "zh", True, id="a language of programs says nothing"),
        pytest.param(CHINESE, None, None, True, id="no language is known"),
        pytest.param("3 + 4 = 7", "zh", None, True, id="no words"),
    ],
)
def test_reasoning_in_another_language_is_left_out(
    thought: str, column: str | None, default: str | None, kept: bool
) -> None:
    stage = sample(min_language_share=0.9, language=default)
    columns = {} if column is None else {"language": column}
    rows = select([row("p", [answer("3", thought=thought)], **columns)], stage, "think_answer").rows
    assert bool(rows) == kept


def learned(tmp_path: Path, rows: list[dict[str, Any]]) -> list[Problem]:
    """Return the problems of a data.jsonl with these rows."""
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    data = Jsonl(
        kind="jsonl", path=str(file), test_path=None, num_test=0, question="question", answer="answer",
        solution="solution", limit=None, test_limit=None,
    )  # fmt: skip
    return data.load("train")


def test_every_row_can_be_learned_by_sft(tmp_path: Path, compose_line: Callable[..., Experiment]) -> None:
    """The answer that is learned is the gold one: a policy that found 3.0 is shown 3."""
    chat = row("chat", [answer("x", right=None) | {"text": "Hello!"}], None)
    chat["earlier"] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    asked = row("open", [answer("x", right=None) | {"text": "It depends."}], None)
    rows = [
        row("same", [answer("3")]),
        row("other", [answer("3.0")]),
        row("bare", [answer("3") | {"text": "3 it is"}]),
        chat,
        asked,
    ]
    problems = learned(tmp_path, select(rows, sample(), "think_answer").rows)
    config = compose_line("stage=sft", "prompt=think_answer").steps[0].config
    found = [demonstrations(problem, config, "all")[0]["messages"] for problem in problems]
    assert [turns[-1]["content"] for turns in found] == [
        text("3"), text("3"), text("3", "3 it is"), "Hello!", "It depends.",
    ]  # fmt: skip
    assert [problem.id for problem in problems] == ["same", "other", "bare", "chat", "open"]
    assert [turn["content"] for turn in found[3]][1:] == ["Hi", "Yes?", "chat?", "Hello!"]


def test_an_unknown_member_is_refused_by_name(compose_line: Callable[..., Experiment]) -> None:
    line = ("stage=sample", "rewards=strict", "+stage.bounds.jugde=0.5")
    with pytest.raises(Refused, match=r"stage.bounds.jugde: the committee has no such member; it has "):
        planned_steps(compose_line(*line))


def test_a_choice_that_is_not_made_changes_no_key(compose_line: Callable[..., Experiment]) -> None:
    config = compose_line("stage=sample", "rewards=strict").steps[0].config
    assert config.deciding_settings()["stage"].keys() == {
        "kind", "samples", "num_problems", "min_pass_rate", "max_pass_rate",
    }  # fmt: skip
    changed = compose_line("stage=sample", "rewards=strict", "stage.keep=2").steps[0].config
    assert changed.deciding_settings()["stage"]["keep"] == 2


def test_a_debug_run_keeps_a_row_of_every_problem() -> None:
    rows = [row("p", [answer("4", right=False), answer("5", right=False, finished=False)])]
    stage = sample(min_reward=5.0, max_paragraph=1).in_debug_run()
    assert [each["id"] for each in select(rows, stage, "think_answer").rows] == ["p"]
