"""The share of a text that is in one of several languages."""

import pytest

from r1exp.filtering.languages import largest_share


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        pytest.param("How many apples does the farmer sell on Monday?", 0.99, 1.0, id="English"),
        pytest.param("小明有三个苹果，又买了五个，现在一共有多少个苹果？", 0.99, 1.0, id="Chinese"),
        pytest.param("Сколько яблок продал фермер в понедельник утром?", 0.0, 0.0, id="Russian"),
    ],
)
def test_a_text_in_one_of_the_languages_has_a_large_share(text: str, low: float, high: float) -> None:
    share = largest_share(text, ("en", "zh"))
    assert share is not None
    assert low <= share <= high


@pytest.mark.parametrize("text", ["$x^2 + 3 = 4$", "3 + 4 = ?", ""])
def test_a_text_without_words_has_none(text: str) -> None:
    assert largest_share(text, ("en",)) is None
