"""Mixtures: shares, order, ids, splits, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from r1exp.dataset.menu import DatasetSettings
from r1exp.dataset.mixture import Mixture
from r1exp.errors import Refused

ADAPTER: TypeAdapter[DatasetSettings] = TypeAdapter(DatasetSettings)
SUMS = {
    "kind": "arithmetic", "seed": 0, "num_train": 60, "num_test": 10, "num_operands": 2, "max_operand": 9, "test_share": 0.25,
}  # fmt: skip


def mixture(*, shared: str = "refuse", **parts: dict[str, Any]) -> Mixture:
    made = ADAPTER.validate_python({"kind": "mixture", "parts": parts, "shared_questions": shared})
    assert isinstance(made, Mixture)
    return made


def jsonl(path: Path, rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    settings = {
        "kind": "jsonl", "path": str(path), "test_path": None, "num_test": 0, "question": "question", "answer": "answer",
        "solution": "solution", "limit": None, "test_limit": None,
    }  # fmt: skip
    return settings | changes


def chats(path: Path, number: int, **columns: Any) -> dict[str, Any]:
    turns = [{"role": "assistant", "content": "Hello"}]
    rows = [{"messages": [{"role": "user", "content": f"Hi, {k}"}, *turns], **columns} for k in range(number)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    names = {"question": "messages", "answer": None, "solution": None, "id": None}
    return {
        "kind": "hf", "path": str(path), "subset": None, "revision": None, "train": "train", "test": None, "test_path": None,
        "num_test": 0, "columns": names, "extract": "whole", "remove": None, "ids": None, "drop": [],
        "shared_questions": "refuse", "limit": None, "test_limit": None,
    }  # fmt: skip


def numbers(start: int, end: int, **columns: Any) -> list[dict[str, Any]]:
    return [
        {"question": f"What is {k} + 0?", "answer": str(k), "solution": "So.", **columns}
        for k in range(start, end)
    ]


def test_without_weights_every_problem_is_there_once_and_the_parts_are_spread_evenly(tmp_path: Path) -> None:
    data = mixture(sums=SUMS, chat=chats(tmp_path / "a.jsonl", 20))
    problems = data.load("train")
    assert data.count("train") == len(problems) == 80 == len({problem.id for problem in problems})
    for start in range(0, 80, 4):
        assert [p.columns["source"] for p in problems[start : start + 4]].count("chat") == 1
    assert problems[0].id.startswith("sums/train-") and problems == data.load("train")
    assert data.first("train", 5) == problems[:5]


def test_weights_hold_at_every_place_and_end_the_mixture_with_the_part_that_is_used_up(
    tmp_path: Path,
) -> None:
    data = mixture(sums=SUMS | {"weight": 3}, chat=chats(tmp_path / "a.jsonl", 90) | {"weight": 1.0})
    sources = [problem.columns["source"] for problem in data.stream("train")]
    assert (sources.count("sums"), sources.count("chat"), data.count("train")) == (60, 20, 80)
    for end in range(1, 81):
        assert abs(sources[:end].count("sums") - 0.75 * end) <= 1
    assert any("leave out 70 of chat" in note for note in data.notes())


def test_a_limit_takes_the_first_training_problems_of_any_kind_and_no_test_problems(tmp_path: Path) -> None:
    data = mixture(
        sums=SUMS | {"limit": 7}, own=jsonl(tmp_path / "a.jsonl", numbers(0, 30), num_test=5) | {"limit": 9}
    )
    assert [len(data.load(split)) for split in ("train", "test")] == [16, 15]
    assert (data.count("train"), data.count("test")) == (16, 15)


def test_only_parts_with_gold_answers_are_evaluated(tmp_path: Path) -> None:
    data = mixture(sums=SUMS, chat=chats(tmp_path / "a.jsonl", 5))
    assert data.has_answers and {problem.columns["source"] for problem in data.load("test")} == {"sums"}
    assert any("not evaluated" in note and "chat" in note for note in data.notes())
    alone = mixture(chat=chats(tmp_path / "a.jsonl", 5))
    assert not alone.has_answers and alone.load("test") == []


def test_a_mixture_of_pairs_has_pairs_and_one_with_problems_has_none(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": "a?", "chosen": "b", "rejected": "c"}))
    pairs = {
        "kind": "preference",
        "path": str(tmp_path / "pairs.jsonl"),
        "test_path": None,
        "test_share": 0.0,
        "limit": None,
    }
    data = mixture(one=pairs, two=pairs | {"limit": 1})
    assert data.has_pairs and [p.columns["chosen"] for p in data.load("train")] == ["b", "b"]
    assert [problem.id[:4] for problem in data.load("train")] == ["one/", "two/"]
    assert not mixture(one=pairs, sums=SUMS).has_pairs


def test_a_column_source_of_a_row_is_renamed(tmp_path: Path) -> None:
    data = mixture(chat=chats(tmp_path / "a.jsonl", 1, source="forum"))
    (problem,) = data.load("train")
    assert problem.columns == {"source": "chat", "row_source": "forum"}
    with pytest.raises(
        Refused, match=r"would become 'row_source'.*dataset\.parts\.chat\.drop=\[row_source\]"
    ):
        mixture(chat=chats(tmp_path / "a.jsonl", 1, source="a", row_source="b")).load("train")


def test_what_another_part_tests_is_not_trained_on(tmp_path: Path) -> None:
    tested = jsonl(tmp_path / "a.jsonl", numbers(0, 30), num_test=30 - 1)
    train = jsonl(tmp_path / "b.jsonl", numbers(0, 40))
    with pytest.raises(
        Refused, match=r"dataset\.parts\.b: .* test question of the part 'a'.*shared_questions=drop"
    ):
        mixture(a=tested, b=train).count("train")
    data = mixture(a=tested, b=train, shared="drop")
    tests = {problem.prompt for problem in data.load("test")}
    trained = {problem.prompt for problem in data.load("train")}
    assert len(tests) == 29 and not tests & trained and data.count("train") == 12
    assert any("29 training problems are left out" in note for note in data.notes())


def test_a_column_with_two_types_is_refused_with_the_parts(tmp_path: Path) -> None:
    one, two = (
        jsonl(tmp_path / f"{n}.jsonl", numbers(9 * k, 9 * k + 9, level=n)) for k, n in enumerate(["hard", 3])
    )
    with pytest.raises(
        Refused, match=r"parts\.two, .*'level' holds a number, and a text in dataset\.parts\.one"
    ):
        mixture(one=one, two=two).count("train")


def test_a_fault_names_the_part_and_the_setting_as_it_is_typed(tmp_path: Path) -> None:
    with pytest.raises(
        Refused, match=r"dataset\.parts\.b: .*no column 'answer'.*e\.g\. dataset\.parts\.b\.answer="
    ):
        mixture(sums=SUMS, b=jsonl(tmp_path / "a.jsonl", [{"question": "a", "gold": "b"}])).count("train")


def test_the_fingerprint_changes_with_the_parts_and_not_with_where_they_are(tmp_path: Path) -> None:
    data = mixture(sums=SUMS, own=jsonl(tmp_path / "a.jsonl", numbers(0, 5)))
    same = mixture(sums=SUMS, own=jsonl(tmp_path / "b.jsonl", numbers(0, 5)))
    others = [
        mixture(sums=SUMS, own=jsonl(tmp_path / "c.jsonl", numbers(0, 6))),
        mixture(sums=SUMS | {"limit": 5}, own=jsonl(tmp_path / "a.jsonl", numbers(0, 5))),
        mixture(
            sums=SUMS | {"weight": 1.0}, own=jsonl(tmp_path / "a.jsonl", numbers(0, 5)) | {"weight": 1.0}
        ),
    ]
    assert data.fingerprint() == same.fingerprint()
    assert len({data.fingerprint_of("train"), *(other.fingerprint_of("train") for other in others)}) == 4
    assert {data.fingerprint_of("test"), *(other.fingerprint_of("test") for other in others)} == {
        data.fingerprint_of("test")
    }


def test_a_part_that_an_earlier_step_makes_is_not_read_before(tmp_path: Path) -> None:
    waiting = jsonl(tmp_path / "a.jsonl", numbers(0, 5)) | {"path": "artifact:harvest"}
    data = mixture(sums=SUMS, own=waiting)
    assert (data.count("train"), data.count("test")) == (None, 10)
    assert data.artifacts("train") == {"harvest"} and data.artifacts("test") == frozenset()
    assert json.loads(data.model_dump_json())["parts"]["own"]["path"] == "artifact:harvest/data.jsonl"
    assert data.pinned() == data and data.fingerprint()


def test_it_survives_being_written_as_json(tmp_path: Path) -> None:
    data = mixture(sums=SUMS | {"weight": 2}, chat=chats(tmp_path / "a.jsonl", 5) | {"weight": 1})
    again = ADAPTER.validate_json(data.model_dump_json(), strict=True)
    assert again.load("train") == data.load("train")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        pytest.param({}, "has no parts; name some", id="none"),
        pytest.param(
            {"a": SUMS | {"weight": 1}, "b": SUMS}, "give every part a weight, or none", id="some weights"
        ),
        pytest.param({"a": {"kind": "mixture", "parts": {}}}, "cannot be a part of a mixture", id="nested"),
        pytest.param({"a/b": SUMS}, "is no name of a part", id="name"),
        pytest.param({"a": SUMS | {"weight": 0}}, "greater than 0", id="weight 0"),
    ],
)
def test_what_is_no_mixture_is_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        mixture(**parts)
