"""Turns a text into 64-bit hashes of its n-grams, word by word, or with numbers and names masked.

    "Ann has 3 pens. She buys 1,200 more."   words   ann has 3 pens she buys 1 200 more
                                             masked  @ has # pens | he buys # more

In the masked form a number, in digits or in words, is one sign, a run of capitalized words is another, and a pronoun of the
third person another; so it is the same for two questions that differ in numbers and names alone. The first word of a sentence is
masked with them, because its capital does not tell a name from another word. N-grams of the masked form do not reach over the end of
a sentence, so that they are the same whatever the order of sentences.

Hashes are of blake2b and arithmetic modulo 2^64: the same in every process and on every machine.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from r1exp.dataset.rows import same_text
from r1exp.rewards.scripts import words, words_as_written

Hashes = NDArray[np.uint64]

_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|[。！？\n]+")
_SCALES: Final = ("hundred", "thousand", "million", "billion")
_NUMBER_WORDS: Final = frozenset(
    (
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
        "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty", "sixty",
        "seventy", "eighty", "ninety", "dozen", "half", "halves", "third", "thirds", "quarter", "quarters", "fourth", "fourths",
        "fifth", "fifths", *_SCALES, *"一二三四五六七八九十百千万亿两零〇半",
    )
)  # fmt: skip
_PRONOUNS: Final = frozenset(["he", "she", "him", "her", "his", "hers", "他", "她"])
_NUMBER, _NAME, _PRONOUN = 1, 2, 3
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)  # odd; 2^64 divided by the golden ratio
_CACHED_WORDS: Final = 1 << 17


def plain_hashes(text: str) -> Hashes:
    """Return the hash of each word, in lower case; shape (words,)."""
    return np.fromiter(map(_hash_of_word, words(same_text(text))), dtype=np.uint64)


def masked_ngrams(text: str, length: int) -> Hashes:
    """Return the different n-grams of the masked form, sorted; a shorter sentence is one n-gram.

    Args:
        text: A question.
        length: Words of an n-gram.
    """
    codes: list[int] = []
    starts: list[int] = []  # of sentences
    for sentence in _SENTENCE_END.split(same_text(text)):
        starts.append(len(codes))
        codes += _masked(words_as_written(sentence))
    array = np.array(codes, dtype=np.uint64)
    bounds = np.array([*starts, len(codes)])
    sizes = np.diff(bounds)
    found = [
        folded(array[start : start + size], size)
        for start, size in zip(starts, sizes, strict=True)
        if 0 < size < length
    ]
    if len(array) >= length:
        sentence_of = np.repeat(np.arange(len(sizes)), sizes)
        inside = sentence_of[: len(array) - length + 1] == sentence_of[length - 1 :]
        found.append(folded(array, length)[inside])
    return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.uint64)


def ngrams(hashes: Hashes, length: int) -> Hashes:
    """Return the different n-grams of words, sorted; of a shorter text the whole of it.

    Args:
        hashes: Of the words, shape (words,).
        length: Words of an n-gram.
    """
    return np.unique(folded(hashes, min(length, len(hashes))))


def whole(hashes: Hashes) -> int:
    """Return the hash of a whole text of words; 0 for a text without words."""
    if len(hashes) == 0:
        return 0
    return int.from_bytes(hashlib.blake2b(hashes.tobytes(), digest_size=8).digest(), "little")


def folded(hashes: Hashes, length: int) -> Hashes:
    """Return the hash of every run of `length` neighbors; shape (words - length + 1,), or none if there are fewer words."""
    number = len(hashes) - length + 1
    if length == 0 or number <= 0:
        return np.zeros(0, dtype=np.uint64)
    found = np.full(number, length, dtype=np.uint64)
    for offset in range(length):
        found = found * _FACTOR + hashes[offset : offset + number]
        found ^= found >> np.uint64(29)
    return found


def folded_rows(values: Hashes) -> Hashes:
    """Return the hash of each row of an array of shape (rows, columns); shape (rows,)."""
    found = np.arange(len(values), dtype=np.uint64)
    for column in range(values.shape[1]):
        found = found * _FACTOR + values[:, column]
        found ^= found >> np.uint64(29)
    return found


def _masked(sentence: Sequence[str]) -> list[int]:
    """Return the codes of a sentence's words in its masked form."""
    found: list[int] = []
    before = ""
    for position, word in enumerate(sentence):
        code = _code(word)
        joins = word == "and" and before in _SCALES and sentence[position + 1 : position + 2]
        if joins and _code(sentence[position + 1]) == _NUMBER:
            continue  # three hundred and five
        if code not in (_NUMBER, _NAME) or not found or found[-1] != code:
            found.append(code)
        before = word.lower()
    return found


@lru_cache(maxsize=_CACHED_WORDS)
def _code(word: str) -> int:
    lower = word.lower()
    if word[0].isdigit() or lower in _NUMBER_WORDS:
        return _NUMBER
    if lower in _PRONOUNS:
        return _PRONOUN
    return _NAME if word[0].isupper() else _hash_of_word(word)


@lru_cache(maxsize=_CACHED_WORDS)
def _hash_of_word(word: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest(), "little"
    )
