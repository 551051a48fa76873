"""Estimates what k answers would reach, from n >= k sampled answers to the same problem.

    pass@k   at least one of k answers is correct: 1 - C(n-c, k) / C(n, k), with c of n correct (arXiv:2107.03374, eq. 1)
    cons@k   the most frequent of k answers is correct; answers that are equally frequent share the point, and one from
             which no answer is read does not vote ([deepseek-r1], voting over samples; arXiv:2203.11171)
    best@k   of k answers, the one with the highest reward is correct; equal rewards share the point

Each is the mean over all C(n, k) subsets of the n answers, computed without listing them, so that no estimate depends on
the order of the samples. For k = n it is the outcome of all n.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from functools import lru_cache
from math import comb


def sizes(num_samples: int) -> list[int]:
    """Return the k that are reported: powers of two from 2 on, and the number of samples itself; none for one sample."""
    powers = [2**power for power in range(1, num_samples.bit_length()) if 2**power < num_samples]
    return [*powers, num_samples] if num_samples > 1 else []


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Return the probability that k of the answers contain a correct one.

    Raises:
        ValueError: k is not between 1 and the number of samples.
    """
    _check(num_samples, k)
    return 1.0 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def cons_at_k(votes: Sequence[Hashable | None], correct: Sequence[bool], k: int) -> float:
    """Return the probability that the most frequent of k answers is correct.

    Args:
        votes: What each answer votes for; None: nothing. Answers that are correct count as one vote, however they differ.
        correct: Whether each answer is correct.
        k: Size of the subsets.

    Raises:
        ValueError: k is not between 1 and the number of samples.
    """
    _check(len(votes), k)
    wrong = Counter(
        vote for vote, is_correct in zip(votes, correct, strict=True) if not is_correct and vote is not None
    )
    return _cons_at_k(len(votes), sum(correct), tuple(sorted(wrong.values(), reverse=True)), k)


def best_at_k(rewards: Sequence[float], correct: Sequence[bool], k: int) -> float:
    """Return the probability that the answer with the highest reward of k is correct.

    Raises:
        ValueError: k is not between 1 and the number of samples.
    """
    _check(len(rewards), k)
    total, num_lower = 0.0, 0
    for reward in sorted(set(rewards)):
        tied = [right for each, right in zip(rewards, correct, strict=True) if each == reward]
        ways = comb(num_lower + len(tied), k) - comb(num_lower, k)  # subsets whose highest reward is this one
        total += ways / comb(len(rewards), k) * sum(tied) / len(tied)
        num_lower += len(tied)
    return total


@lru_cache(maxsize=65536)
def _cons_at_k(num_samples: int, num_correct: int, wrong: tuple[int, ...], k: int) -> float:
    """Return `cons_at_k` for numbers of votes: for the correct answer, and for each wrong one, in falling order.

    For each number of votes t of the correct answer in a subset, subsets are counted in which no other answer has more,
    by the number of others that have as many. Answers with fewer than t votes in total can be drawn freely.
    """
    total = 0.0
    for votes in range(1, min(num_correct, k) + 1):
        rivals = [count for count in wrong if count >= votes]
        free = num_samples - num_correct - sum(rivals)
        others = k - votes  # further answers of the subset
        # by (number of tied answers, number drawn): ways to draw from the rivals that have been looked at
        ways = {(0, drawn): comb(free, drawn) for drawn in range(min(free, others) + 1)}
        for count in rivals:
            after: dict[tuple[int, int], int] = {}
            for (tied, drawn), number in ways.items():
                for more in range(min(votes, count, others - drawn) + 1):
                    place = (tied + (more == votes), drawn + more)
                    after[place] = after.get(place, 0) + number * comb(count, more)
            ways = after
        shared = sum(number / (tied + 1) for (tied, drawn), number in ways.items() if drawn == others)
        total += comb(num_correct, votes) * shared / comb(num_samples, k)
    return total


def _check(num_samples: int, k: int) -> None:
    if not 1 <= k <= num_samples:
        raise ValueError(f"k={k} of {num_samples} answers; k is at least 1 and at most the number of answers")
