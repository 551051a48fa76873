"""Computes which differences between two settings a sweep can see, and how much it would need to see a smaller one.

The difference between two settings with S seeds in common, N problems and K answers to each has the model

    d[s, i] = delta + seed[s] + problem[i] + rest[s, i]        variances T², P², R² + W² / K

seed is how differently a seed serves the two settings, problem how differently the settings do on a problem, rest what
seed and problem do together, and W² / K the sampling of K answers. The mean has the variance
V = T² / S + P² / N + (R² + W² / K) / (S N). The test is the one of the report (`crossed_difference`; with one seed the
paired t test): it rejects where

    d² > h² + max(0, t(S-1)² MS_seed - t(N-1)² MS_rest) / (S N)        h² = t(N-1)² MS_problem / (S N)

The interval of a share counts a quarter of a problem that is always answered and a quarter of one that never is
(r1exp.statistics.intervals), which widens it where few answers are wrong or few are right: h² is larger by the share
(p² + (1 - p)²) / (4 N var), with the accuracy p and the variance of a setting over problems, var = p (1 - p) - W²/2 + W² / (2 S K).

MS_seed is (N T² + R² + W² / K) times a chi-square with S - 1 degrees of freedom over S - 1. The other mean squares have N - 1
and more degrees of freedom and are taken at their expectation. Power is then an integral over one chi-square, which is computed
with 64 quantiles; with P = R = W = 0 it is the power of the t test, the noncentral t distribution.

With m comparisons a p-value counts at 0.05 / m, the first step of Holm's correction: the power is that of a difference where
no other is found, the least that Holm's correction has.

Sources: J. Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, chapter 2 (power of the t test); F. A. Graybill and
C. M. Wang (1980), JASA 75:869 (the interval); G. E. P. Box (1954), Annals of Mathematical Statistics 25:290 (expectations of
mean squares). Checked by simulation and against real runs: docs/design-of-experiments.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from r1exp.statistics.intervals import ALPHA
from r1exp.statistics.student import quantile

_ADDED = 0.25  # of a problem, as in r1exp.statistics.intervals
_NODES = 64  # quantiles of the chi-square of the seeds
MOST_SEEDS, MOST_PROBLEMS, MOST_SAMPLES = 200, 100_000, 256  # beyond which a number is called out of reach


@dataclass(frozen=True, slots=True)
class Components:
    """Variances of the difference between two settings; a proportion squared."""

    seed: float  # T²: over training seeds
    problem: float  # P²: over problems
    rest: float  # R²: of seed and problem together, without sampling
    sampling: float  # W²: of one answer to a problem
    accuracy: float = 0.5  # p: share of right answers, which bounds the intervals of single settings

    def widening(self, size: "Size") -> float:
        """Return by which factor the squared distance over problems is larger than that of Student's t."""
        p, own = self.accuracy, self.sampling / 2.0
        answers = size.seeds * size.samples
        spread = max(p * (1.0 - p) - own + own / answers, p * (1.0 - p) / answers)
        return 1.0 + _ADDED * (p**2 + (1.0 - p) ** 2) / (size.problems * spread) if spread > 0.0 else 1.0

    def of_one(self, samples: int) -> float:
        """Return the variance of one run's difference on one problem, around those of seed and problem."""
        return self.rest + self.sampling / samples


@dataclass(frozen=True, slots=True)
class Size:
    """How much a comparison measures."""

    seeds: int  # that both settings have
    problems: int
    samples: int = 1  # answers to a problem, of each run
    comparisons: int = 1  # whose p-values are corrected together

    @property
    def alpha(self) -> float:
        """The level at which one difference counts."""
        return ALPHA / self.comparisons


def power_of(difference: float, components: Components, size: Size) -> float:
    """Return the probability that the report calls a difference significant, on its side of 0 or the other.

    Args:
        difference: The true difference between the settings, a proportion. With one seed: between the two models.
        components: Variances of the difference.
        size: What is measured.
    """
    import numpy as np
    from scipy.special import chdtri, ndtr

    one = components.of_one(size.samples)
    variance = components.problem / size.problems + one / (size.seeds * size.problems)
    problems = float(quantile(size.problems - 1, size.alpha)) ** 2
    bound = np.array([problems * variance])
    if size.seeds > 1:
        bound = bound * components.widening(size)
        variance += components.seed / size.seeds
        at = (np.arange(_NODES) + 0.5) / _NODES
        squares = (
            (size.problems * components.seed + one) * chdtri(size.seeds - 1, 1.0 - at) / (size.seeds - 1)
        )
        seeds = float(quantile(size.seeds - 1, size.alpha)) ** 2
        bound = bound + np.maximum(seeds * squares - problems * one, 0.0) / (size.seeds * size.problems)
    if variance <= 0.0:
        return float(difference != 0.0)
    error = math.sqrt(variance)
    far = np.sqrt(bound) / error
    return float(np.mean(ndtr(difference / error - far) + ndtr(-difference / error - far)))


def detectable(components: Components, size: Size, power: float = 0.8) -> float:
    """Return the smallest difference that is seen with probability `power`, a proportion; above 1: none is."""
    low, high = 0.0, 1.0
    while power_of(high, components, size) < power:
        high *= 2.0
        if high > 64.0:
            return math.inf
    for _ in range(30):
        middle = (low + high) / 2.0
        if power_of(middle, components, size) < power:
            low = middle
        else:
            high = middle
    return high


@dataclass(frozen=True, slots=True)
class Needed:
    """The numbers with which a difference is seen, each alone with the others as they are; None: it is out of reach."""

    seeds: int | None
    problems: int | None
    samples: int | None


def needed(difference: float, components: Components, size: Size, power: float = 0.8) -> Needed:
    """Return how many seeds, problems or samples would be needed to see a difference with probability `power`."""

    def reached(changed: Size) -> bool:
        return power_of(difference, components, changed) >= power

    return Needed(
        seeds=_least(lambda number: reached(replace(size, seeds=number)), 2, MOST_SEEDS),
        problems=_least(lambda number: reached(replace(size, problems=number)), 2, MOST_PROBLEMS),
        samples=_least(lambda number: reached(replace(size, samples=number)), 1, MOST_SAMPLES),
    )


def _least(reached: Callable[[int], bool], least: int, most: int) -> int | None:
    """Return the smallest number that suffices, by bisection; None if `most` does not."""
    if not reached(most):
        return None
    low, high = least - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        if reached(middle):
            high = middle
        else:
            low = middle
    return high
