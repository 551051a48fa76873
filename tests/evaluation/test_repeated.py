from collections import Counter
from itertools import combinations, product
from statistics import fmean

import pytest

from r1exp.evaluation.repeated import best_at_k, cons_at_k, pass_at_k, sizes
from r1exp.statistics.fractions import mean_of_fractions


def by_counting(correct: list[bool], k: int) -> float:
    return fmean(any(correct[row] for row in rows) for rows in combinations(range(len(correct)), k))


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_at_k_equals_counting_over_all_subsets(n: int) -> None:
    for outcomes in product([False, True], repeat=n):
        for k in range(1, n + 1):
            expected = by_counting(list(outcomes), k)
            assert pass_at_k(n, sum(outcomes), k) == pytest.approx(expected, abs=1e-12)


def winner_is_correct(rows: tuple[int, ...], votes: str, correct: list[bool]) -> float:
    """Return the share of the most frequent votes that are correct; `-` votes for nothing, `c` is correct."""
    counts = Counter(votes[row] for row in rows if votes[row] != "-")
    if not counts:
        return 0.0
    leaders = [vote for vote, number in counts.items() if number == max(counts.values())]
    return leaders.count("c") / len(leaders)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_the_majority_vote_equals_counting_over_all_subsets(n: int) -> None:
    for letters in product("cab-", repeat=n):
        votes, correct = "".join(letters), [letter == "c" for letter in letters]
        for k in range(1, n + 1):
            expected = fmean(winner_is_correct(rows, votes, correct) for rows in combinations(range(n), k))
            found = cons_at_k([None if vote == "-" else vote for vote in votes], correct, k)
            assert found == pytest.approx(expected, abs=1e-12), (votes, k)


def test_correct_answers_are_one_vote_however_they_are_written() -> None:
    assert cons_at_k(["1/2", "0.5", "7", "7", "0.50"], [True, True, False, False, True], 5) == 1.0
    assert cons_at_k(["1/2", "0.5", "7", "7"], [True, True, False, False], 4) == 0.5  # a tie is shared


@pytest.mark.parametrize("n", [1, 3, 5])
def test_the_best_by_reward_equals_counting_over_all_subsets(n: int) -> None:
    for rewards in product([0.0, 0.5, 2.0], repeat=n):
        for correct in product([False, True], repeat=n):
            for k in range(1, n + 1):
                found = best_at_k(rewards, correct, k)
                assert found == pytest.approx(best_by_counting(rewards, correct, k), abs=1e-12)


def best_by_counting(rewards: tuple[float, ...], correct: tuple[bool, ...], k: int) -> float:
    shares = []
    for rows in combinations(range(len(rewards)), k):
        top = max(rewards[row] for row in rows)
        shares.append(fmean(correct[row] for row in rows if rewards[row] == top))
    return fmean(shares)


def test_k_is_a_power_of_two_or_the_number_of_samples() -> None:
    assert {n: sizes(n) for n in (0, 1, 2, 3, 8, 12)} == {
        0: [], 1: [], 2: [2], 3: [2, 3], 8: [2, 4, 8], 12: [2, 4, 8, 12],
    }  # fmt: skip


def test_more_answers_than_there_are_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="k=3 of 2 answers"):
        pass_at_k(2, 1, 3)


def test_sixty_four_samples_are_fast_and_within_bounds() -> None:
    votes = [f"wrong {row % 9}" for row in range(44)] + ["right"] * 20
    shares = [cons_at_k(votes, [vote == "right" for vote in votes], k) for k in sizes(64)]
    assert shares == sorted(shares) and shares[-1] == 1.0


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        pytest.param([0.0] * 20, 0.0, 0.17, id="never"),
        pytest.param([1.0] * 20, 0.83, 1.0, id="always"),
        pytest.param([0.5] * 20, 0.34, 0.66, id="no spread: as 40 outcomes"),
        pytest.param([0.0, 1.0] * 10, 0.27, 0.73, id="outcomes"),
        pytest.param([0.4, 0.6] * 10, 0.34, 0.66, id="fractions, not narrower than 40 draws"),
        pytest.param([0.3], 0.0, 0.99, id="one problem"),
    ],
)
def test_the_interval_of_fractions(values: list[float], low: float, high: float) -> None:
    found = mean_of_fractions(values, draws=2)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    assert found.low <= found.value <= found.high and found.n == len(values)
