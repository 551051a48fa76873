"""Answers compared as texts: exact, F1 and patterns."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, Context
from r1exp.rewards.check import check
from r1exp.rewards.match import UNREADABLE_PATTERN, Match, squad_words

MakeProblem = Callable[..., Problem]
NOW = Context()


def score(answer: str, gold: str | None, columns: dict[str, Any] | None = None, **settings: Any) -> Any:
    reward = Match(style="think_answer", **settings)
    text = f"<think>so</think><answer>{answer}</answer>"
    return reward.score(Problem("p", "?", gold, columns or {}), Completion(text, 5), NOW)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("The  Eiffel-Tower!", ["eiffeltower"], id="case, article, punctuation and spaces"),
        pytest.param("a cat, an owl and the dog.", ["cat", "owl", "and", "dog"], id="articles"),
        pytest.param("$1.50", ["150"], id="also the point of a number"),
        pytest.param("theater anthem", ["theater", "anthem"], id="no article inside a word"),
    ],
)
def test_texts_are_normalized_as_by_squads_script(text: str, words: list[str]) -> None:
    assert squad_words(text) == words


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        pytest.param("Denver Broncos", "denver broncos", 1.0, id="equal"),
        pytest.param("the Broncos", "Denver Broncos", 2 / 3, id="one of two words"),
        pytest.param("Denver Denver Broncos", "Denver Broncos", 0.8, id="a repeated word counts once"),
        pytest.param("Panthers", "Denver Broncos", 0.0, id="nothing shared"),
        pytest.param("the", "a", 1.0, id="both empty after normalization"),
        pytest.param("the", "Denver", 0.0, id="one empty after normalization"),
    ],
)
def test_f1_is_squads(answer: str, gold: str, expected: float) -> None:
    assert score(answer, gold, by="f1", normalize="squad") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        pytest.param("**Paris.**", "paris", 1.0, id="markdown and a period"),
        pytest.param("ＰＡＲＩＳ", "Paris", 1.0, id="full width"),
        pytest.param("Straße", "STRASSE", 1.0, id="case folding"),
        pytest.param("北京。", "北京", 1.0, id="Chinese punctuation"),
        pytest.param("15", "1.5", 0.0, id="a point is part of a number"),
        pytest.param("(1.5).", "1.5", 1.0, id="what surrounds a number is not"),
        pytest.param("5", "-5", 0.0, id="a sign is part of a number"),
        pytest.param("\N{MINUS SIGN}5", "-5", 1.0, id="two kinds of minus"),
        pytest.param("Paris or London", "Paris", 0.0, id="two answers"),
        pytest.param("The", "a", 0.0, id="articles alone are words"),
        pytest.param("", "Paris", 0.0, id="nothing"),
    ],
)
def test_equal_texts_of_any_script_match(answer: str, gold: str, expected: float) -> None:
    assert score(answer, gold) == expected


def test_f1_counts_characters_in_scripts_without_spaces() -> None:
    assert score("北京市", "北京", by="f1") == pytest.approx(0.8)


@pytest.mark.parametrize(
    "column",
    [
        ["NYC", "New York"],
        "New York",
        {"text": ["New York"], "answer_start": [3]},
        {"value": "NYC", "aliases": ["New York"]},
    ],
)
def test_every_alias_is_a_gold_text(column: Any) -> None:
    assert score("new york", None, {"aliases": column}, aliases="aliases") == 1.0
    assert score("Boston", None, {"aliases": column}, aliases="aliases") == 0.0


def test_without_a_gold_text_it_abstains() -> None:
    assert score("x", None, {"aliases": []}, aliases="aliases") == NO_GOLD
    assert score("x", "x", by="regex", pattern_column="pattern") == NO_GOLD


def test_the_whole_answer_must_match_the_pattern() -> None:
    pattern = r"(?i)yes|no"
    assert [score(text, None, by="regex", pattern=pattern) for text in ("YES", "yes or no")] == [1.0, 0.0]
    columns = {"pattern": r"\d{4}-\d{2}-\d{2}"}
    assert score("2024-01-05", None, columns, by="regex", pattern_column="pattern") == 1.0


@pytest.mark.parametrize("pattern", ["[", "((a{999}){999}){999}", "(" * 1500, "a" * 3000])
def test_a_pattern_of_the_data_that_cannot_be_used_abstains(pattern: str) -> None:
    assert score("a", None, {"p": pattern}, by="regex", pattern_column="p") == UNREADABLE_PATTERN
    with pytest.raises(ValueError, match="cannot be used"):
        score("a", None, by="regex", pattern=pattern)


def test_an_answer_that_takes_a_pattern_exponential_time_is_wrong() -> None:
    begin = time.process_time()
    assert score("a" * 64 + "b", None, by="regex", pattern="(a|aa)+$") == 0.0
    assert time.process_time() - begin < 5.0


def test_reads_a_reply_without_an_answer_place_whole() -> None:
    reward = Match(style="think_answer", read="whole")
    completion = Completion("<think>Paris?</think>\nParis.", 5)
    assert reward.score(Problem("p", "?", "Paris"), completion, NOW) == 1.0


@pytest.mark.parametrize(
    "settings", [{"by": "regex"}, {"pattern": "x"}, {"by": "regex", "pattern": "x", "pattern_column": "y"}]
)
def test_a_pattern_is_given_for_regex_alone(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="by=regex needs a pattern or a pattern_column"):
        Match(style="plain", **settings)


def test_rows_without_a_gold_answer_pass_the_check_with_a_note() -> None:
    report = check(
        {"m": Match(style="plain", by="regex", pattern="yes|no")}, "plain", [Problem("p", "Is it?")]
    )
    assert report.ok, report.text()
    assert "no gold answer that the rewards could be checked with" in report.text()
