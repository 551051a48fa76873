"""Chooses which combinations of values run in a designed experiment, and says which effects its runs cannot tell apart.

    full             all combinations
    fractional       2^(k-p) combinations of k factors with two values; the generators with the least confounding (pyDOE3)
    plackett_burman  the next multiple of four combinations above k factors with two values (pyDOE3)
    latin            a Latin square: L² of the L³ combinations of three factors with L values each

An effect is a product of factors, coded -1 and +1. In a regular fraction two effects are either apart or the same column of the
design: their sum is what is measured. The resolution is the number of factors in the shortest product that is the same in every
run. In a Plackett-Burman design a main effect is mixed with a part of each interaction of two other factors.

Sources: G. E. P. Box and J. S. Hunter (1961), Technometrics 3:311 (resolution); R. L. Plackett and J. P. Burman (1946), Biometrika
33:305; R. A. Fisher (1935), The Design of Experiments, chapter 5 (Latin squares). pyDOE3: the generators and the matrices.
"""

from collections.abc import Sequence
from itertools import combinations, product

Rows = tuple[tuple[int, ...], ...]  # for each run, the index of the value of each factor
_MOST_FACTORS = 7  # for which pyDOE3 searches generators in under a second


class NoDesignError(ValueError):
    """The factors do not fit the design; the text says why."""


def full(levels: Sequence[int]) -> Rows:
    """Return all combinations, the last factor changing fastest."""
    return tuple(product(*(range(number) for number in levels)))


def fractional(num_factors: int, resolution: int) -> tuple[Rows, str]:
    """Return the smallest fraction with at least this resolution, and its generators.

    Raises:
        NoDesignError: there is none that leaves a combination out.
    """
    from pyDOE3 import fracfact, fracfact_opt

    if num_factors < 3:
        raise NoDesignError(f"{num_factors} factors have no fraction, which takes three or more")
    if num_factors > _MOST_FACTORS:
        raise NoDesignError(
            f"{num_factors} factors are more than the {_MOST_FACTORS} for which generators are searched; "
            "plackett_burman takes any number"
        )
    for left_out in range(num_factors - 2, 0, -1):
        try:
            generators = str(fracfact_opt(num_factors, left_out)[0])
        except ValueError:  # fewer basic factors than generators need
            continue
        rows = _coded(fracfact(generators))
        if resolution_of(rows) >= resolution:
            return rows, generators
    raise NoDesignError(
        f"a fraction of {num_factors} factors has at most resolution {num_factors}, and {resolution} is asked for"
    )


def plackett_burman(num_factors: int) -> Rows:
    """Return a Plackett-Burman design.

    Raises:
        NoDesignError: there are fewer than three factors, of which it would be all combinations.
    """
    from pyDOE3 import pbdesign

    if num_factors < 3:
        raise NoDesignError(f"{num_factors} factors need all combinations; it takes three or more")
    return _coded(pbdesign(num_factors))


def latin(levels: Sequence[int]) -> Rows:
    """Return a Latin square: every value of a factor meets every value of another once.

    Raises:
        NoDesignError: the factors are not three with as many values each.
    """
    if len(levels) != 3 or len(set(levels)) != 1:
        raise NoDesignError(
            f"{len(levels)} factors with {', '.join(map(str, levels))} values; a Latin square takes three factors with as "
            "many values each"
        )
    size = levels[0]
    return tuple((row, column, (row + column) % size) for row in range(size) for column in range(size))


def _coded(matrix: Sequence[Sequence[float]]) -> Rows:
    """Return the indices of a matrix of -1 and +1, in the order of all combinations."""
    return tuple(sorted({tuple(int(value > 0) for value in row) for row in matrix}))


def resolution_of(rows: Rows) -> int:
    """Return the resolution of runs with two values a factor; the number of factors + 1 where all combinations run."""
    number = len(rows[0])
    for size in range(1, number + 1):
        for word in combinations(range(number), size):
            if abs(_product_sum(rows, word)) == len(rows):
                return size
    return number + 1


def _product_sum(rows: Rows, word: Sequence[int]) -> int:
    """Return the sum over runs of the product of the factors in `word`, coded -1 and +1."""
    total = 0
    for row in rows:
        total += (-1) ** sum(1 - row[index] for index in word)
    return total


Effect = tuple[int, ...]  # the factors of a main effect or an interaction


def confounded(rows: Rows, most: int = 2) -> list[list[Effect]]:
    """Return the effects of at most `most` factors that runs with two values a factor cannot tell apart, in groups of two or more."""
    groups: list[list[Effect]] = []
    for effect in effects_of(len(rows[0]), most):
        for group in groups:
            if abs(correlation(rows, group[0], effect)) == 1.0:
                group.append(effect)
                break
        else:
            groups.append([effect])
    return [group for group in groups if len(group) > 1]


def partly_confounded(rows: Rows) -> float:
    """Return the largest correlation, below 1, of a main effect with an interaction of two factors; 0 without any."""
    number = len(rows[0])
    found = [
        abs(correlation(rows, (factor,), pair))
        for factor in range(number)
        for pair in combinations(range(number), 2)
    ]
    return max((value for value in found if value < 1.0), default=0.0)


def correlation(rows: Rows, first: Effect, second: Effect) -> float:
    """Return the correlation of two effects over runs with two values a factor; a factor in both cancels."""
    return _product_sum(rows, sorted(set(first) ^ set(second))) / len(rows)


def effects_of(num_factors: int, most: int = 2) -> list[Effect]:
    """Return the main effects, then the interactions of up to `most` factors."""
    return [effect for size in range(1, most + 1) for effect in combinations(range(num_factors), size)]
