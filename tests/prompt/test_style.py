import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1exp.errors import Refused
from r1exp.prompt.answer import same_number
from r1exp.prompt.style import STYLES, style_named

NAMES = list(STYLES)
HARD_ANSWERS = (Path(__file__).parent / "gsm8k_hard_answers.txt").read_text().split()
GSM8K = Path(os.environ.get("R1EXP_GSM8K", Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k"))


def gsm8k() -> Iterator[tuple[str, str]]:
    for name in ("train.jsonl", "test.jsonl"):
        for line in (GSM8K / name).read_text(encoding="utf-8").splitlines():
            solution, gold = json.loads(line)["answer"].split("####")
            yield solution, gold.strip()


@pytest.mark.parametrize("name", NAMES)
def test_the_hard_gold_answers_of_gsm8k_are_read_back(name: str) -> None:
    style = style_named(name)
    assert len(HARD_ANSWERS) == 93
    for gold in [*HARD_ANSWERS, "-12", "0.5", "1/2", "$3,000.25"]:
        text = style.write("It is 7.\nSo 8.", gold)
        assert same_number(style.read_answer(text) or "", gold) is True


@pytest.mark.skipif(not GSM8K.is_dir(), reason="GSM8K is not on this machine (set R1EXP_GSM8K)")
@pytest.mark.parametrize("name", NAMES)
def test_every_gold_answer_of_gsm8k_is_read_back(name: str) -> None:
    style = style_named(name)
    num_equal = 0
    for solution, gold in gsm8k():
        text = style.write(solution, gold)
        num_equal += style.follows(text) and same_number(style.read_answer(text) or "", gold) is True
    assert num_equal == 8792


@pytest.mark.parametrize("name", NAMES)
def test_a_style_reads_what_it_writes(name: str) -> None:
    style = style_named(name)
    text = style.write(" 1 + 1\n= 2 ", " 2 ")
    assert style.follows(text)
    assert style.read_reasoning(text) == "1 + 1\n= 2"
    assert style.read_answer(text) == "2"
    assert all(text.count(tag) == 1 for tag in style.tags)


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_already_in_the_style_is_kept(name: str) -> None:
    style = style_named(name)
    text = style.write("1 + 1", "2")
    assert style.write(text, "2") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("<think>a</think><answer>b</answer>", True, id="exact"),
        pytest.param("\n<think>\na\n</think>\n\n<answer>b</answer> \n", True, id="whitespace"),
        pytest.param("<think></think><answer></answer>", True, id="empty tags"),
        pytest.param("x<think>a</think><answer>b</answer>", False, id="text before"),
        pytest.param("<think>a</think><answer>b</answer>x", False, id="text after"),
        pytest.param("<think>a</think>x<answer>b</answer>", False, id="text between"),
        pytest.param("<think>a<think>a</think><answer>b</answer>", False, id="a tag twice"),
        pytest.param("<answer>b</answer><think>a</think>", False, id="wrong order"),
        pytest.param("<think>a<answer>b</answer></think>", False, id="nested"),
        pytest.param("<think>a<answer></think>b</answer>", False, id="interleaved"),
        pytest.param("<think>a</think><answer>b", False, id="truncated"),
        pytest.param("", False, id="empty"),
    ],
)
def test_the_tagged_format_is_strict(text: str, expected: bool) -> None:
    assert style_named("think_answer").follows(text) is expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("think_answer", "<answer>1</answer> no, <answer> 2 </answer>", ["1", "2"]),
        ("think_answer", "<answer>1</answer> no, <answer>2", ["1"]),
        ("think_answer", "<answer><answer>3</answer></answer>", ["3"]),
        ("think_answer", "<answer>\n4\n</answer>", ["4"]),
        ("think_answer", "4", []),
        ("reasoning_summary", "<summary>x=1或x=3</summary>", ["x=1或x=3"]),
        ("boxed", r"\boxed{1} or \boxed{\frac{1}{2}}", ["1", r"\frac{1}{2}"]),
        ("boxed", r"\boxed{\boxed{3}}", ["3"]),
        ("boxed", r"\boxed{\{1, 2\}}", [r"\{1, 2\}"]),
        ("boxed", r"\boxed{[1, 2\}}", [r"[1, 2\}"]),
        ("boxed", r"\boxed{1} then \boxed{2", ["1"]),
        ("boxed", r"a } stray { \boxed {5}", ["5"]),
        ("plain", "2 + 3\n#### 5", ["5"]),
        ("plain", "#### 1\nno\n####  2 \ndone", ["1", "2"]),
        ("plain", "2 + 3 = 5", []),
    ],
)
def test_answers_are_read_in_order(name: str, text: str, expected: list[str]) -> None:
    style = style_named(name)
    assert style.read_answers(text) == expected
    assert style.read_answer(text) == (expected[-1] if expected else None)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("boxed", r"so \boxed{2}", True),
        ("boxed", r"so \boxed{2", False),
        ("plain", "so\n#### 2\n", True),
        ("plain", "so\n####", False),
        ("plain", "#### 2\nso", False),
    ],
)
def test_the_boxed_and_plain_formats(name: str, text: str, expected: bool) -> None:
    assert style_named(name).follows(text) is expected


@pytest.mark.parametrize(
    ("name", "reasoning", "answer"),
    [
        pytest.param("think_answer", "so <answer>1</answer>", "2", id="tags in the reasoning"),
        pytest.param("think_answer", "so", "</answer>", id="a tag in the answer"),
        pytest.param("boxed", "so", "}", id="unbalanced braces"),
        pytest.param("plain", "so", "1\n2", id="an answer of two lines"),
    ],
)
def test_a_completion_that_would_be_misread_is_refused(name: str, reasoning: str, answer: str) -> None:
    with pytest.raises(Refused, match="read back"):
        style_named(name).write(reasoning, answer)
