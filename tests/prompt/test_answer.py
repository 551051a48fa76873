import time
from fractions import Fraction

import pytest

from r1exp.prompt.answer import (
    all_numbers,
    answer_or_last_number,
    last_number,
    parse_number,
    same_answer,
    same_number,
)
from r1exp.prompt.style import style_named


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("72", Fraction(72)),
        (" -7 ", Fraction(-7)),
        ("\N{MINUS SIGN}7", Fraction(-7)),
        ("+7", Fraction(7)),
        ("109,200,000", Fraction(109_200_000)),
        ("$1,080.50", Fraction(2161, 2)),
        ("-$5", Fraction(-5)),
        ("$-5", Fraction(-5)),
        ("18€", Fraction(18)),
        (r"\$18", Fraction(18)),
        ("50%", Fraction(50)),
        (r"50\%", Fraction(50)),
        ("12.", Fraction(12)),
        ("7.0", Fraction(7)),
        (".5", Fraction(1, 2)),
        ("0.1", Fraction(1, 10)),
        ("3 / 4", Fraction(3, 4)),
        ("-3/4", Fraction(-3, 4)),
        ("1.5e3", Fraction(1500)),
        ("2E-2", Fraction(1, 50)),
        ("007", Fraction(7)),
    ],
)
def test_a_number_is_read_exactly(text: str, expected: Fraction) -> None:
    assert parse_number(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "x", "1,2", "1,08", "12,3456", "1/0", "--5", "-$-5", "1e9999", "3 4", "18 dollars", "1.2.3"],
)
def test_other_text_is_not_read_as_a_number(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She has 3 + 12 = 15.", ["3", "12", "15"]),
        ("10-8=2", ["10", "8", "2"]),
        ("It is (-8), or -$9", ["-8", "-9"]),
        ("total: $1,080.50!", ["1,080.50"]),
        ("1, 2 and 3", ["1", "2", "3"]),
        ("12,3456", ["12", "3456"]),
        ("共有5个", ["5"]),
        ("half is 1/2", ["1/2"]),
        ("about 1.5e3 of x2", ["1.5e3"]),
        ("none", []),
    ],
)
def test_numbers_are_found_in_running_text(text: str, expected: list[str]) -> None:
    assert all_numbers(text) == expected
    assert last_number(text) == (expected[-1] if expected else None)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("7", "7.0", True),
        ("1,080", "$1080", True),
        ("0.1", "1/10", True),
        ("9007199254740993", "9007199254740992", False),  # equal as floats
        ("7", "seven", None),
        ("x", "x", None),
    ],
)
def test_numbers_are_compared_exactly(a: str, b: str, expected: bool | None) -> None:
    assert same_number(a, b) is expected


@pytest.mark.parametrize(
    ("given", "gold", "expected"),
    [
        ("1080", "1,080", True),
        ("18 dollars", "18", True),
        ("18 or 19", "18", False),
        ("19", "18", False),
        ("eighteen", "18", False),
        (None, "18", False),
        (" x=1 or x=3", "x=1 or x=3 ", True),
        ("x=1", "x=1 or x=3", False),
        ("B", "A", False),
    ],
)
def test_an_answer_is_compared_as_a_number_or_else_as_text(
    given: str | None, gold: str, expected: bool
) -> None:
    assert same_answer(given, gold) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("<answer>5</answer> of 9", "5", id="a tagged answer comes first"),
        pytest.param("the sum is 9", "9", id="no tags: the last number"),
        pytest.param("<answer>5", "5", id="truncated inside the tags"),
        pytest.param("<answer></answer> 9", "", id="empty tags are an answer, and wrong"),
        pytest.param("no idea", None, id="no answer"),
    ],
)
def test_a_tagged_answer_is_read_before_the_last_number(text: str, expected: str | None) -> None:
    assert answer_or_last_number(style_named("think_answer"), text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "9" * 200_000,
        "9," * 100_000,
        "1,234," * 50_000,
        "1,234" * 50_000,
        "-$" * 100_000,
        "1/" * 100_000,
        "1e" * 100_000,
        "<answer>" * 30_000,
        "</answer>" * 30_000,
        r"\boxed{" * 30_000,
        "####" * 50_000,
        "\\" * 200_001,
    ],
    ids=lambda text: text[:9],
)
def test_reading_takes_linear_time(text: str) -> None:
    start = time.process_time()
    parse_number(text)
    last_number(text)
    for name in ("think_answer", "boxed", "plain"):
        style = style_named(name)
        style.follows(text)
        style.read_answer(text)
        style.read_reasoning(text)
    assert time.process_time() - start < 2.0  # seconds; a quadratic pattern takes minutes
