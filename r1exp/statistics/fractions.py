"""Computes the confidence interval of a mean of fractions, one for each independent unit (pass@k of a problem).

A unit counts as a cluster of as many trials as there are draws behind its fraction (`r1exp.statistics.intervals`), so that the
interval is never narrower than for all draws together, and holds also where few successes are expected.
"""

import math
from collections.abc import Sequence

from r1exp.statistics.intervals import Clusters, Interval


def mean_of_fractions(values: Sequence[float], draws: int = 1) -> Interval:
    """Return the mean of fractions between 0 and 1 with its 95 % interval; `n` counts units.

    Args:
        values: One fraction for each unit.
        draws: Independent draws behind each fraction.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("there are no fractions, so they have no mean")
    num = len(values)
    total, squares = math.fsum(values), math.fsum(value * value for value in values)
    sums = Clusters(num, num * draws, num * draws**2, total * draws, squares * draws**2, total * draws**2)
    low, high = sums.bounds()
    mean = min(max(total / num, 0.0), 1.0)
    return Interval(mean, num, min(float(low), mean), max(float(high), mean))
