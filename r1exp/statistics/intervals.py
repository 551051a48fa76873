"""Computes 95 % confidence intervals of proportions and means.

Proportion of n:   Wilson's score interval, (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n).
Proportion of clustered trials (several samples of one problem): Wilson's interval with the effective
    number of trials n* = p(1-p) / var(p), where var(p) is the variance between clusters.
Mean of clusters: mean ± t sqrt(var), Student's t with (number of clusters - 1) degrees of freedom.

Sources: E. B. Wilson (1927), JASA 22:209; R. G. Newcombe (1998), Statistics in Medicine 17:857;
E. L. Korn and B. I. Graubard (1998), Survey Methodology 24:193, for the effective number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from r1exp.statistics.student import quantile_975

Z = NormalDist().inv_cdf(0.975)  # 1.96, for 95 %


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % confidence interval; `n` counts independent units (problems, seeds)."""

    value: float
    n: int
    low: float
    high: float


def proportion(successes: int, n: int) -> Interval:
    """Return the proportion of successes with Wilson's interval.

    Raises:
        ValueError: `n` is not positive, or `successes` is not between 0 and `n`.
    """
    if not (n > 0 and 0 <= successes <= n):
        raise ValueError(
            f"{successes} successes of {n} trials is not a proportion; it needs n > 0 and 0 <= successes <= n"
        )
    low, high = _wilson(successes / n, n)
    return Interval(successes / n, n, low, high)


def clustered_proportion(clusters: Sequence[Sequence[bool]]) -> Interval:
    """Return the proportion of successes, with trials correlated within a cluster (one problem).

    With one trial per cluster this is `proportion`. The interval is never narrower than for independent trials.
    """
    num_trials = sum(map(len, clusters))
    share = sum(map(sum, clusters)) / num_trials
    if num_trials == len(clusters):
        return proportion(sum(map(sum, clusters)), num_trials)
    if share in (0.0, 1.0):
        num_effective: float = len(clusters)  # no variance to estimate: count each cluster once
    else:
        variance = _variance_of_mean([list(map(float, cluster)) for cluster in clusters])
        effective = num_trials if variance == 0.0 else share * (1.0 - share) / variance
        num_effective = min(effective, num_trials)
    low, high = _wilson(share, num_effective)
    return Interval(share, len(clusters), low, high)


def mean_interval(clusters: Sequence[Sequence[float]]) -> Interval:
    """Return the mean over all values with the interval from the variance between clusters.

    Raises:
        ValueError: there are fewer than two clusters, or one of them is empty.
    """
    if len(clusters) < 2 or not all(clusters):
        raise ValueError(f"{len(clusters)} clusters; an interval needs at least two, none of them empty")
    mean = sum(map(sum, clusters)) / sum(map(len, clusters))
    half_width = quantile_975(len(clusters) - 1) * math.sqrt(_variance_of_mean(clusters))
    return Interval(mean, len(clusters), mean - half_width, mean + half_width)


def _variance_of_mean(clusters: Sequence[Sequence[float]]) -> float:
    """Return the variance of the overall mean, estimated between clusters: C/(C-1) sum(residual²) / n²."""
    num_values = sum(map(len, clusters))
    mean = sum(map(sum, clusters)) / num_values
    residuals = [sum(cluster) - mean * len(cluster) for cluster in clusters]
    return len(clusters) / (len(clusters) - 1) * math.fsum(r * r for r in residuals) / num_values**2


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Return Wilson's bounds; a proportion of 0 or 1 has exactly that bound on its side."""
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half_width = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    low = 0.0 if share == 0.0 else max(middle - half_width, 0.0)
    high = 1.0 if share == 1.0 else min(middle + half_width, 1.0)
    return low, high
