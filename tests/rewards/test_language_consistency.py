from collections.abc import Callable

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context
from r1exp.rewards.language_consistency import Language, LanguageConsistency

MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]


@pytest.mark.parametrize(
    ("language", "text", "share"),
    [
        pytest.param("en", "First we add the apples, so x = 7 and $y = 8$.", 1.0, id="English with formulas"),
        pytest.param("en", "We add them. 首先相加", 3 / 7, id="3 English words, 4 Chinese characters"),
        pytest.param("zh", "首先我们计算总数，x = 7, sin x = 1。", 1.0, id="Chinese with formulas"),
        pytest.param("zh", "首先 calculate", 2 / 3, id="an English word in Chinese"),
        pytest.param("zh", "まず合計を計算します。", 0.0, id="Japanese is not Chinese"),
        pytest.param("ja", "まず合計を計算します。", 1.0, id="Japanese"),
        pytest.param("en", "Zuerst addieren wir alle diese Zahlen.", 0.0, id="German is not English"),
        pytest.param("de", "Zuerst addieren wir alle diese Zahlen.", 1.0, id="German"),
        pytest.param(
            "uk", "Сначала сложим все числа вместе, потом умножим.", 0.0, id="Russian is not Ukrainian"
        ),
        pytest.param(
            "en", "plus minus times", 1.0, id="the detector finds Latin or French with low probability"
        ),
        pytest.param(
            "zh", r"首先 $\alpha \times beta$ 相加 `return summe`", 1.0, id="formulas and code are no words"
        ),
        pytest.param("en", "7 + 8 = 15", 0.0, id="no words"),
        pytest.param("en", "", 0.0, id="nothing"),
    ],
)
def test_words_in_the_wanted_language_are_counted(language: Language, text: str, share: float) -> None:
    reward = LanguageConsistency(style="think_answer", language=language)
    assert reward.share(text) == pytest.approx(share)


def test_the_reasoning_is_scored_and_divided_by_the_threshold(
    problem: MakeProblem, completion: MakeCompletion
) -> None:
    answer = completion("<think>We add them. 首先相加</think><answer>总数是四十二</answer>")
    strict = LanguageConsistency(style="think_answer")
    lenient = LanguageConsistency(style="think_answer", threshold=0.5)
    assert strict.score(problem(), answer, Context()) == pytest.approx(3 / 7)
    assert lenient.score(problem(), answer, Context()) == pytest.approx(6 / 7)
