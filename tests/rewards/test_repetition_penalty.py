from collections.abc import Callable

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context
from r1exp.rewards.repetition_penalty import RepetitionPenalty, num_different_phrases
from r1exp.rewards.scripts import words, words_by_script

MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("we add two numbers", 0.0, id="nothing twice"),
        pytest.param("go on go on go on", -0.6, id="2 different of 5 pairs"),
        pytest.param("Go on, go ON! Go: on", -0.6, id="case and punctuation do not matter"),
        pytest.param("好好好好", -2 / 3, id="1 different of 3, characters"),
        pytest.param("我们先加后乘", 0.0, id="Chinese without repetition"),
        pytest.param("word", 0.0, id="too short"),
        pytest.param("", 0.0, id="nothing"),
    ],
)
def test_the_penalty_is_the_share_of_repeated_pairs(
    text: str, expected: float, problem: MakeProblem, completion: MakeCompletion
) -> None:
    assert RepetitionPenalty(n=2).score(problem(), completion(text), Context()) == pytest.approx(expected)


def test_the_largest_penalty_is_a_setting(problem: MakeProblem, completion: MakeCompletion) -> None:
    reward = RepetitionPenalty(n=2, max_penalty=-0.5)
    assert reward.span == (-0.5, 0.0)
    assert reward.score(problem(), completion("go on go on go on"), Context()) == pytest.approx(-0.3)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_phrases_are_counted_as_a_set_of_tuples_would(n: int) -> None:
    tokens = [str(number * number % 23) for number in range(500)]
    expected = len({tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)})
    assert num_different_phrases(tokens, n) == expected


def test_words_of_every_script() -> None:
    text = "It's 42 世界 мир हिन्दी カタ"
    assert words(text) == ["it's", "42", "世", "界", "мир", "हिन्दी", "カ", "タ"]
    assert list(words_by_script("ab世мир3é")) == [
        ("latin", "ab"),
        ("han", "世"),
        ("cyrillic", "мир"),
        ("latin", "é"),
    ]
