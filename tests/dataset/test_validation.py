"""Tests of the problems that are kept out of training: never trained on, never test problems, the same in any order."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from r1exp.dataset.arithmetic import Arithmetic
from r1exp.dataset.hf import ColumnNames, Hf
from r1exp.dataset.jsonl import Jsonl
from r1exp.dataset.validation import training_problems, validation_problems
from r1exp.errors import Refused


def arithmetic(num_train: int = 60) -> Arithmetic:
    return Arithmetic(
        kind="arithmetic",
        seed=0,
        num_train=num_train,
        num_test=20,
        num_operands=2,
        max_operand=9,
        test_share=0.25,
    )


def rows(number: int) -> list[dict[str, Any]]:
    return [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(number)]


def jsonl(folder: Path, content: Sequence[dict[str, Any]], name: str = "train.jsonl") -> Jsonl:
    path = folder / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in content))
    return Jsonl(
        kind="jsonl", path=str(path), test_path=None, num_test=4, limit=None, test_limit=None, question="question",
        answer="answer", solution=None,
    )  # fmt: skip


def prompts(problems: Any) -> list[str]:
    return [problem.prompt for problem in problems]


def test_validation_problems_are_neither_trained_on_nor_tested() -> None:
    data = arithmetic()
    kept, trained = prompts(validation_problems(data, 10)), prompts(training_problems(data, 10))
    assert len(kept) == 10 and len(trained) == 50
    assert not set(kept) & (set(trained) | set(prompts(data.load("test"))))
    assert sorted(kept + trained) == sorted(prompts(data.load("train")))


def test_without_validation_the_training_split_is_whole() -> None:
    assert prompts(training_problems(arithmetic(), 0)) == prompts(arithmetic().load("train"))


def test_the_choice_depends_on_the_questions_only(tmp_path: Path) -> None:
    content = rows(20)
    reordered = [row | {"source": "elsewhere"} for row in reversed(content)]
    first, second = jsonl(tmp_path, content), jsonl(tmp_path, reordered, "other.jsonl")
    assert prompts(validation_problems(first, 5)) == prompts(validation_problems(second, 5))


def test_a_question_in_several_rows_is_held_out_with_all_of_them(tmp_path: Path) -> None:
    data = jsonl(tmp_path, rows(20) * 2)
    kept, trained = prompts(validation_problems(data, 5)), prompts(training_problems(data, 5))
    assert len(set(kept)) == len(kept) == 5
    assert not set(kept) & set(trained) and len(trained) == 2 * (20 - 4 - 5)


def test_holding_out_every_question_is_refused() -> None:
    with pytest.raises(Refused, match="num_validation=60 would hold out all"):
        validation_problems(arithmetic(), 60)


def hf(folder: Path, **splits: list[dict[str, Any]]) -> Hf:
    for name, content in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in content))
    return Hf(
        kind="hf", path=str(folder), subset=None, revision=None, train="train", test="test", test_path=None, num_test=0,
        limit=None, test_limit=None, columns=ColumnNames(question="question", answer="answer", solution=None, id=None),
        extract="whole", remove=None, ids=None, drop=(), shared_questions="drop",
    )  # fmt: skip


def test_a_validation_split_of_the_data_set_is_used_without_what_is_trained_on_or_tested(
    tmp_path: Path,
) -> None:
    content = rows(30)
    data = hf(tmp_path, train=content[:12], test=content[10:20], validation=content[8:30])
    kept = prompts(validation_problems(data, 100))
    assert sorted(kept) == sorted(row["question"] for row in content[20:30])
    assert prompts(training_problems(data, 100)) == prompts(data.load("train"))  # stays whole
    before = data.validation_fingerprint()
    assert before is not None and before != hf(tmp_path, validation=content[9:30]).validation_fingerprint()
    with pytest.raises(Refused, match="has no problem with an answer that is in neither"):
        validation_problems(hf(tmp_path, validation=content[:20]), 5)
