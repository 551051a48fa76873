"""Between which bounds does a share, or a mean, lie with 95 % confidence?

Share of n:   Wilson's score interval, (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n).
Share of clustered trials (several samples of one problem): Wilson's interval with the effective
    number of trials n* = p(1-p) / var(p), where var(p) is the variance between clusters.
Mean of clusters: mean ± t sqrt(var), Student's t with one degree of freedom less than clusters.

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
    """A figure with its 95 % confidence interval; `n` counts independent units (problems, seeds)."""

    value: float
    n: int
    low: float
    high: float


def proportion(successes: int, n: int) -> Interval:
    """Return the share of successes with Wilson's interval; raise ValueError unless 0 <= successes <= n, n > 0."""
    if not (n > 0 and 0 <= successes <= n):
        raise ValueError(f"{successes} successes of {n} trials is no share")
    low, high = _wilson(successes / n, n)
    return Interval(successes / n, n, low, high)


def clustered_proportion(clusters: Sequence[Sequence[bool]]) -> Interval:
    """Return the share of successes where the trials of one cluster (one problem) resemble each other.

    With one trial a cluster this is `proportion`. Never narrower than if all trials were independent.
    """
    num_trials = sum(map(len, clusters))
    share = sum(map(sum, clusters)) / num_trials
    if num_trials == len(clusters):
        return proportion(sum(map(sum, clusters)), num_trials)
    if share in (0.0, 1.0):
        num_effective: float = len(clusters)  # no variance to see: count each problem once
    else:
        variance = _variance_of_mean([list(map(float, cluster)) for cluster in clusters])
        ceiling = num_trials if variance == 0.0 else share * (1.0 - share) / variance
        num_effective = min(ceiling, num_trials)
    low, high = _wilson(share, num_effective)
    return Interval(share, len(clusters), low, high)


def mean_interval(clusters: Sequence[Sequence[float]]) -> Interval:
    """Return the mean over all values with the interval that clusters of them allow.

    Raises ValueError for fewer than two clusters, which say nothing about the spread.
    """
    if len(clusters) < 2 or not all(clusters):
        raise ValueError(f"{len(clusters)} clusters; an interval needs at least two, none of them empty")
    mean = sum(map(sum, clusters)) / sum(map(len, clusters))
    reach = quantile_975(len(clusters) - 1) * math.sqrt(_variance_of_mean(clusters))
    return Interval(mean, len(clusters), mean - reach, mean + reach)


def _variance_of_mean(clusters: Sequence[Sequence[float]]) -> float:
    """Return the variance of the overall mean, estimated between clusters: C/(C-1) sum(residual²) / n²."""
    num_values = sum(map(len, clusters))
    mean = sum(map(sum, clusters)) / num_values
    residuals = [sum(cluster) - mean * len(cluster) for cluster in clusters]
    return len(clusters) / (len(clusters) - 1) * math.fsum(r * r for r in residuals) / num_values**2


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Return Wilson's bounds; at 0 and 1 they are exactly 0 and 1 on that side."""
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    reach = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    low = 0.0 if share == 0.0 else max(middle - reach, 0.0)
    high = 1.0 if share == 1.0 else min(middle + reach, 1.0)
    return low, high
