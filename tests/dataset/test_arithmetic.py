import re
from typing import Any

import pytest
from pydantic import ValidationError

from r1exp.dataset.arithmetic import Arithmetic, all_texts


def arithmetic(**changes: Any) -> Arithmetic:
    values = {"kind": "arithmetic", "seed": 0, "num_train": 2000, "num_test": 1000}
    values |= {"num_operands": 3, "max_operand": 20, "test_share": 0.25}
    return Arithmetic.model_validate(values | changes)


def operands(question: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", question)]


def test_the_splits_share_no_set_of_operands() -> None:
    data = arithmetic()
    train = {tuple(sorted(operands(problem.prompt))) for problem in data.load("train")}
    test = {tuple(sorted(operands(problem.prompt))) for problem in data.load("test")}
    assert len(train) > 900  # of C(22, 3) = 1540 sets, three quarters: 1155
    assert len(test) > 350  # a quarter: 385
    assert not train & test


@pytest.mark.parametrize(("split", "num_problems"), [("train", 2000), ("test", 1000)])
def test_every_problem_is_unique(split: Any, num_problems: int) -> None:
    problems = arithmetic().load(split)
    assert len({problem.prompt for problem in problems}) == num_problems
    assert len({problem.id for problem in problems}) == num_problems


@pytest.mark.parametrize("num_operands", [2, 3, 5])
def test_answer_and_solution_add_up(num_operands: int) -> None:
    for problem in arithmetic(num_operands=num_operands, max_operand=9, num_test=50).load("test"):
        numbers = operands(problem.prompt)
        assert len(numbers) == num_operands
        assert problem.answer == str(sum(numbers))
        assert problem.columns["operands"] == " ".join(map(str, sorted(numbers)))
        lines = problem.columns["solution"].split("\n")
        assert len(lines) == num_operands - 1
        for line in lines:
            first, second, total = operands(line)
            assert line == f"{first}+{second}={total}"
            assert first + second == total
        assert lines[-1].endswith(f"={problem.answer}")


def test_a_solution_adds_from_left_to_right() -> None:
    problem = arithmetic().load("train")[0]
    a, b, c = operands(problem.prompt)
    assert problem.columns["solution"] == f"{a}+{b}={a + b}\n{a + b}+{c}={a + b + c}"


def test_operands_are_in_any_order() -> None:
    problems = arithmetic().load("test")
    in_order = [p.id for p in problems if operands(p.prompt) == sorted(operands(p.prompt))]
    assert 100 < len(in_order) < 400  # one order of six, and more if operands are equal


def test_a_smaller_split_is_the_start_of_a_larger_one() -> None:
    assert arithmetic(num_train=10).load("train") == arithmetic().load("train")[:10]
    assert arithmetic(num_train=10).load("test") == arithmetic().load("test")


def test_the_seed_decides_split_and_problems() -> None:
    assert arithmetic(seed=1).operand_sets("test") != arithmetic(seed=0).operand_sets("test")
    assert arithmetic(seed=1).fingerprint() != arithmetic(seed=0).fingerprint()
    assert arithmetic(seed=1).fingerprint() == arithmetic(seed=1).fingerprint()


def test_the_texts_for_a_tokenizer_contain_every_word_and_mark() -> None:
    def pieces(text: str) -> set[str]:
        return set(re.findall(r"[A-Za-z]+|\S|\n", text))

    vocabulary = {piece for text in all_texts() for piece in pieces(text)}
    assert len(vocabulary) < 80
    for problem in arithmetic(num_operands=4).load("train"):
        assert pieces(problem.prompt) <= vocabulary
        assert pieces(problem.columns["solution"]) <= vocabulary


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"max_operand": 1, "num_test": 1000}, "raise dataset.max_operand", id="too few"),
        pytest.param({"num_operands": 6, "max_operand": 60}, "lower dataset.max_operand", id="too many"),
        pytest.param(
            {"max_operand": 2, "num_train": 9, "test_share": 0.01},
            "from 0 sets of operands",
            id="no test set",
        ),
        pytest.param({"num_operands": 1}, "greater than or equal to 2", id="one operand"),
        pytest.param({"num_train": True}, "valid integer", id="true is not a count"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        arithmetic(**changes)


def test_the_first_problems_are_those_of_the_whole_split() -> None:
    data = arithmetic(num_train=50)
    assert data.first("train", 7) == data.load("train")[:7]
    assert data.first("train", 70) == data.load("train")
