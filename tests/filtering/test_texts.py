"""Hashes of n-grams, as the words are written and with numbers and names masked."""

import pytest

from r1exp.filtering.texts import masked_ngrams, ngrams, plain_hashes, whole

QUESTION = "Ann has 3 pens. She buys 12 more pens and gives her brother two. How many pens does Ann have?"


@pytest.mark.parametrize(
    "copy",
    [
        pytest.param(QUESTION.replace("3", "1,250").replace("12", "7.5"), id="other values"),
        pytest.param(QUESTION.replace("3", "three hundred and five").replace("12", "twelve"), id="numbers in words"),
        pytest.param(QUESTION.replace("Ann", "Bartholomew"), id="another name"),
        pytest.param(QUESTION.replace("Ann", "Mary Jane Smith"), id="a name of several words"),
        pytest.param(QUESTION.replace("She", "He").replace(" her ", " his "), id="another pronoun"),
        pytest.param("How many pens does Ann have? Ann has 3 pens. She buys 12 more pens and gives her brother two.", id="another order"),
        pytest.param(QUESTION.replace(". ", ".\n"), id="other white space"),
    ],
)  # fmt: skip
def test_the_masked_form_does_not_tell_numbers_names_and_order_apart(copy: str) -> None:
    assert masked_ngrams(copy, 4).tolist() == masked_ngrams(QUESTION, 4).tolist()


@pytest.mark.parametrize(
    "other",
    [QUESTION.replace("pens", "cups"), QUESTION.replace("buys", "sells"), "How many pens does Ann have?"],
)
def test_the_masked_form_tells_other_words_apart(other: str) -> None:
    assert masked_ngrams(other, 4).tolist() != masked_ngrams(QUESTION, 4).tolist()


def test_masked_chinese_numbers_count_as_equal_however_they_are_written() -> None:
    one = masked_ngrams("小明有三个苹果。他又买了12个。现在有多少个苹果？", 4)
    other = masked_ngrams("小明有8个苹果。她又买了十二个。现在有多少个苹果？", 4)
    assert one.tolist() == other.tolist()


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert whole(plain_hashes("What is 2 + 2?")) == whole(plain_hashes("what IS: 2 2"))
    assert whole(plain_hashes("caf\u00e9")) == whole(plain_hashes("cafe\u0301"))  # two encodings of one word
    assert whole(plain_hashes("What is 2 + 3?")) != whole(plain_hashes("What is 2 + 2?"))


def test_hashes_are_the_same_on_every_machine() -> None:
    assert plain_hashes("ten pens").tolist() == [18431561018806779029, 12960524287143685456]
    assert whole(plain_hashes("ten pens")) == 5359062853727782975
    assert masked_ngrams("Ann has ten pens.", 4).tolist() == [15215726667502111435]


def test_a_text_shorter_than_an_n_gram_is_one_and_an_empty_one_is_none() -> None:
    assert len(ngrams(plain_hashes("one two three"), 5)) == 1
    assert len(ngrams(plain_hashes(""), 5)) == len(masked_ngrams("?!", 4)) == whole(plain_hashes("?!")) == 0
    assert len(ngrams(plain_hashes("a b c d e f"), 5)) == 2
