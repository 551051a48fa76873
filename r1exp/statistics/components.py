"""Estimates what varies in the accuracy of runs: training seeds, problems, both together, and the sampling of answers.

The accuracies y[c, s, i] of the runs of C settings with S seeds on N problems, with K answers to each problem, are taken apart by the
two-way analysis of variance of each setting, and of the difference between each two settings that share seeds:

    seed    (MS_seed - MS_rest) / N         problem    (MS_problem - MS_rest) / S         rest    MS_rest - sampling / K

Sampling is the mean of p (1 - p) K / (K - 1) over runs and problems; with one answer it is MS_rest, and the rest 0. Of the variances
of single settings those of a difference follow: twice of seeds (as if settings did not share them), rest and sampling.

A variance of few degrees of freedom says little: the estimate of n degrees counts n times, a prior once.

Source: S. R. Searle, G. Casella and C. E. McCulloch (1992), Variance Components, chapter 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from r1exp.statistics.power import Components

PRIOR_WEIGHT = 1.0  # degrees of freedom that a prior counts


@dataclass(frozen=True, slots=True)
class Squares:
    """Mean squares of a two-way table of seeds and problems, less sampling."""

    seed: float
    problem: float
    rest: float
    sampling: float  # of one answer
    seeds: int
    problems: int
    samples: int


def squares_of(shares: Any, samples: int) -> Squares:
    """Return the mean squares of shares of correct answers, or of differences between them.

    Args:
        shares: An array (S, N), of at least one seed and two problems.
        samples: Answers behind a share, K. The sampling of differences is added later, by `difference_squares`.
    """
    num_seeds, num = shares.shape
    mean = shares.mean()
    of_seed = shares.mean(axis=1, keepdims=True) - mean
    of_problem = shares.mean(axis=0, keepdims=True) - mean
    rest = shares - mean - of_seed - of_problem
    within = float((shares * (1.0 - shares)).mean()) * samples / (samples - 1) if samples > 1 else 0.0
    several = num_seeds > 1
    return Squares(
        seed=float(num * (of_seed**2).sum() / (num_seeds - 1)) if several else 0.0,
        problem=float(num_seeds * (of_problem**2).sum() / (num - 1)),
        rest=float((rest**2).sum() / ((num_seeds - 1) * (num - 1))) if several else 0.0,
        sampling=within,
        seeds=num_seeds,
        problems=num,
        samples=samples,
    )


@dataclass(frozen=True, slots=True)
class Table:
    """The answers of runs of one setting: for each seed and problem, the share that is correct."""

    setting: str
    seeds: tuple[int, ...]
    shares: Any  # (S, N)
    samples: int  # answers behind a share
    problems: str  # what identifies the problems


@dataclass(frozen=True, slots=True)
class Estimate:
    """Components with what they rest on."""

    components: Components
    accuracy: float | None  # mean over runs; None: priors alone
    runs: int
    settings: int
    pairs: int  # pairs of settings that share at least two seeds
    seed_degrees: int  # degrees of freedom of the variance of seeds; 0: the prior alone


def estimated(tables: Sequence[Table], prior: Components) -> Estimate:
    """Return the components of a difference between two settings, from runs where they tell them and else from the prior.

    Args:
        tables: Of settings; runs of one setting differ in the seed.
        prior: Components of the difference, which count as one degree of freedom.
    """
    if not tables:
        return Estimate(prior, None, 0, 0, 0, 0)
    pairs = [
        found
        for index, first in enumerate(tables)
        for second in tables[index + 1 :]
        if (found := _paired(first, second)) is not None
    ]
    singles = [squares_of(table.shares, table.samples) for table in tables]
    sampling, rest, degrees = _of_runs(singles, prior)
    seed, problem = prior.seed, prior.problem
    seed_degrees = 0
    if pairs:
        # Of the C (C - 1) / 2 differences between C settings, C - 1 are independent.
        seed_degrees = max(sum(each.seeds - 1 for each in pairs) * 2 // _settings_in(len(pairs)), 1)
        seed = _mixed([(each.seed - each.rest) / each.problems for each in pairs], seed_degrees, prior.seed)
        problem = _mixed(
            [(each.problem - each.rest) / each.seeds for each in pairs],
            sum(each.problems - 1 for each in pairs),
            prior.problem,
        )
    elif degrees:
        several = [each for each in singles if each.seeds > 1]
        seed_degrees = degrees
        seed = _mixed(
            [2.0 * (each.seed - each.rest) / each.problems for each in several], degrees, prior.seed
        )
    mean = sum(float(table.shares.sum()) for table in tables) / sum(table.shares.size for table in tables)
    return Estimate(
        Components(
            seed=seed,
            problem=problem,
            rest=rest,
            sampling=sampling,
            accuracy=min(max(mean, 0.01), 0.99),
        ),
        accuracy=mean,
        runs=sum(len(table.seeds) for table in tables),
        settings=len(tables),
        pairs=len(pairs),
        seed_degrees=seed_degrees,
    )


def _settings_in(num_pairs: int) -> int:
    """Return how many settings have so many pairs, at least."""
    number = 2
    while number * (number - 1) // 2 < num_pairs:
        number += 1
    return number


def _paired(first: Table, second: Table) -> Squares | None:
    """Return the mean squares of the difference over the seeds that two settings share; None with fewer than two."""
    shared = [seed for seed in first.seeds if seed in second.seeds]
    if len(shared) < 2 or first.problems != second.problems:
        return None
    sides = [table.shares[[table.seeds.index(seed) for seed in shared]] for table in (first, second)]
    return squares_of(sides[1] - sides[0], 1)


def _of_runs(singles: Sequence[Squares], prior: Components) -> tuple[float, float, int]:
    """Return the sampling and the rest of a difference, and the degrees of freedom of seeds."""
    several = [each for each in singles if each.seeds > 1]
    repeated = [each for each in singles if each.samples > 1]
    degrees = sum(each.seeds - 1 for each in several)
    if repeated:
        sampling = 2.0 * _mean([each.sampling for each in repeated])
        rests = [each.rest - each.sampling / each.samples for each in repeated if each.seeds > 1]
        return sampling, (max(2.0 * _mean(rests), 0.0) if rests else prior.rest), degrees
    if several:
        return 2.0 * _mean([each.rest for each in several]), 0.0, degrees
    return prior.sampling, prior.rest, degrees


def _mixed(values: Sequence[float], degrees: float, prior: float) -> float:
    return (degrees * max(_mean(values), 0.0) + PRIOR_WEIGHT * prior) / (degrees + PRIOR_WEIGHT)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
