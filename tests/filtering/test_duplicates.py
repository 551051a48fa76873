"""Duplicates among rows: the later one is found, with the earlier one that stays."""

import tracemalloc
from pathlib import Path
from random import Random

import numpy as np
import pytest

from r1exp.filtering.duplicates import Duplicates, jaccard
from r1exp.filtering.texts import ngrams, plain_hashes

WORDS = [f"w{number}" for number in range(500)]


def text(seed: int, length: int = 60) -> str:
    return " ".join(Random(seed).choices(WORDS, k=length))


def found_in(
    rows: list[str], folder: Path, similarity: float | None = 0.8, out: tuple[int, ...] = ()
) -> tuple[list[tuple[int, int]], list[tuple[int, int, float]]]:
    duplicates = Duplicates(folder, similarity=similarity, ngram=5, permutations=128)
    for number, row in enumerate(rows):
        duplicates.add(number, plain_hashes(row))
    is_out = np.zeros(len(rows), bool)
    is_out[list(out)] = True
    exact, near = list(duplicates.exact(is_out)), list(duplicates.near(is_out))
    duplicates.close()
    return exact, near


def test_the_later_one_of_equal_rows_is_found(tmp_path: Path) -> None:
    rows = [text(1), text(2), text(1).upper(), text(1) + "!", "", "?"]
    assert found_in(rows, tmp_path)[0] == [(2, 0), (3, 0)]  # rows without words equal none


def test_a_row_that_is_left_out_has_no_duplicates(tmp_path: Path) -> None:
    rows = [text(1), text(1), text(1)]
    assert found_in(rows, tmp_path, out=(0,))[0] == [(2, 1)]


@pytest.mark.parametrize(
    ("similarity", "is_found"), [pytest.param(0.9, True, id="below"), pytest.param(0.99, False, id="above")]
)
def test_the_similarity_of_near_duplicates_is_verified(
    similarity: float, is_found: bool, tmp_path: Path
) -> None:
    rows = [text(1), text(2), text(1) + " other"]
    exact, near = found_in(rows, tmp_path, similarity)
    assert exact == []
    assert [pair[:2] for pair in near] == ([(2, 0)] if is_found else [])
    if is_found:
        assert near[0][2] == pytest.approx(56 / 57)


def test_all_of_many_near_duplicates_are_found_and_nothing_else(tmp_path: Path) -> None:
    rows = [text(seed) for seed in range(400)] + [text(seed) + " end" for seed in range(400)]
    exact, near = found_in(rows, tmp_path)
    assert exact == []
    assert [pair[:2] for pair in near] == [(400 + seed, seed) for seed in range(400)]


def test_a_row_is_compared_with_rows_that_stay(tmp_path: Path) -> None:
    words = text(1, 100).split()
    chain = [" ".join(words[3 * step : 3 * step + 40]) for step in range(4)]  # neighbors: 33 of 39 n-grams
    grams = [ngrams(plain_hashes(row), 5) for row in chain]
    assert jaccard(grams[0], grams[1]) == pytest.approx(33 / 39)
    assert jaccard(grams[0], grams[2]) < 0.8
    assert [pair[:2] for pair in found_in(chain, tmp_path)[1]] == [(1, 0), (3, 2)]


def test_many_copies_of_one_row_are_compared_with_the_first_alone(tmp_path: Path) -> None:
    rows = [f"{text(1)} {number}" for number in range(3000)]
    assert [pair[:2] for pair in found_in(rows, tmp_path)[1]] == [(number, 0) for number in range(1, 3000)]


def test_memory_does_not_hold_texts(tmp_path: Path) -> None:
    duplicates = Duplicates(tmp_path, similarity=0.8, ngram=5, permutations=128)
    duplicates.add(0, plain_hashes(text(0)))
    tracemalloc.start()
    for number in range(1, 2000):
        duplicates.add(number, plain_hashes(text(number, 20) + f" {'x' * 2000}"))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    duplicates.close()
    assert size < 2000 * 400  # bytes, cached hashes of words among them; the texts have 4 MB


def test_without_similarity_there_are_no_near_duplicates(tmp_path: Path) -> None:
    assert found_in([text(1), text(1) + " end"], tmp_path, None) == ([], [])
