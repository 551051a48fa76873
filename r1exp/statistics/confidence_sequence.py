"""Bounds a mean difference from below, valid at every number of pairs at once, so that one may look after each and stop.

n differences with mean d and standard deviation s (n - 1 degrees of freedom) of a normal distribution with any mean m and any variance.
For a supposed mean m, t = (d - m) sqrt(n) / s, u = t / sqrt(t^2 + n - 1), r^2 = n tau^2 / (1 + n tau^2), and the e-value is

    E_n(m) = 2 (1 + n tau^2)^(-1/2) (1 - r^2 u^2)^(-n/2) F_n(sqrt(n) r u / sqrt(1 - r^2 u^2))

with F_n the distribution function of Student's t with n degrees of freedom: the likelihood of t averaged over effects (m' - m) / sigma
that are half-normal with scale tau, over its likelihood without an effect. At the true mean E_1, E_2, ... is a martingale that starts at 1, so that
it ever exceeds 1 / alpha with probability at most alpha (Ville's inequality). The bound at n is the smallest mean that is not
rejected: d - t* s / sqrt(n), where E_n = 1 / alpha at t*. With probability at least 1 - alpha the true mean lies above all bounds.

Sources: T. L. Lai (1976), Annals of Statistics 4:265; H. Wang and A. Ramdas (2025), Anytime-valid t-tests and confidence sequences for
Gaussian means with unknown variance, Sequential Analysis 44:56 (arXiv:2310.03722); M. F. Perez-Ortiz, T. Lardy, R. de Heide and P. Gruenwald
(2024), Annals of Statistics 52:1410 (arXiv:2208.07610). The half-normal average, its closed form and tau are ours, and are checked by
benchmarks/races.py.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

SCALE = 3.0  # tau, standard deviations of a difference: bounds are narrowest at 5 to 10 pairs, which seeds of training are


def log_e_value(t: Any, n: Any, scale: float = SCALE) -> Any:
    """Return log E_n at a t statistic of n pairs, at least 2; numbers, or arrays."""
    import numpy as np
    from scipy.special import stdtr

    t, n = np.asarray(t, dtype=float), np.asarray(n, dtype=float)
    spread = 1.0 + n * scale**2
    ru = np.sqrt(n * scale**2 / spread) * t / np.sqrt(t**2 + n - 1.0)
    rest = 1.0 - ru**2
    tail = stdtr(n, np.sqrt(n) * ru / np.sqrt(rest))
    return math.log(2.0) - np.log(spread) / 2.0 - n / 2.0 * np.log(rest) + np.log(tail)


@cache
def critical_t(n: int, alpha: float, scale: float = SCALE) -> float:
    """Return the t statistic of n pairs at which E_n is 1 / alpha; infinity where no t statistic is large enough.

    Args:
        n: Pairs.
        alpha: Probability that any bound of the sequence is above the true mean.
        scale: tau.
    """
    from scipy.optimize import brentq

    largest = 1e6
    if n < 2 or log_e_value(largest, n, scale) < -math.log(alpha):
        return math.inf
    return float(brentq(lambda t: log_e_value(t, n, scale) + math.log(alpha), 0.0, largest, xtol=1e-9))


@cache
def fewest_pairs(alpha: float, widest: float = 10.0) -> int:
    """Return the fewest pairs whose bound is at most `widest` standard deviations below the mean."""
    n = 2
    while critical_t(n, alpha) / math.sqrt(n) > widest:
        n += 1
    return n


def lower_bounds(differences: Sequence[float], alpha: float, least_spread: float = 0.0) -> list[float]:
    """Return the bound after each pair, the largest so far; -infinity where there is none yet.

    Args:
        differences: Of pairs, in their order.
        alpha: Probability that any of the bounds is above the true mean.
        least_spread: The standard deviation is not taken to be smaller; equal differences of a few pairs are a coincidence.
    """
    found, best = [], -math.inf
    total = squares = 0.0
    for n, difference in enumerate(differences, start=1):
        before = total / (n - 1) if n > 1 else 0.0
        total += difference
        squares += (difference - before) * (difference - total / n)
        if n > 1:
            spread = max(math.sqrt(squares / (n - 1)), least_spread)
            critical = critical_t(n, alpha)
            if math.isfinite(critical):
                best = max(best, total / n - critical * spread / math.sqrt(n))
        found.append(best)
    return found
