"""Computes the confidence interval of a mean of fractions, one for each independent unit (pass@k of a problem).

Wilson's interval with the effective number of trials n* = p(1-p) / var(p) * (z / t)², where var(p) is the variance between
units and t Student's quantile for their number. Source: Korn and Graubard (1998), Survey Methodology 24:193.
"""

import math
from collections.abc import Sequence
from statistics import stdev

from r1exp.statistics.intervals import Interval, Z, mean_interval, proportion


def mean_of_fractions(values: Sequence[float], draws: int = 1) -> Interval:
    """Return the mean of fractions between 0 and 1 with its 95 % interval; `n` counts units.

    Args:
        values: One fraction for each unit.
        draws: Independent draws behind each fraction; the interval is never narrower than for all of them together.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("there are no fractions, so they have no mean")
    num_units = len(values)
    if all(value in (0.0, 1.0) for value in values):
        return proportion(round(sum(values)), num_units)
    mean = min(max(math.fsum(values) / num_units, 0.0), 1.0)
    num_effective = float(num_units)
    error = stdev(values) / math.sqrt(num_units) if num_units > 1 else 0.0  # standard error of the mean
    if error > 0.0:
        spread = mean_interval([[value] for value in values])
        quantile = (spread.high - spread.low) / 2 / error
        num_effective = min(mean * (1.0 - mean) / error**2, num_units * draws) * (Z / quantile) ** 2
    return Interval(mean, num_units, *_wilson(mean, num_effective))


def _wilson(share: float, n: float) -> tuple[float, float]:
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half_width = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return (
        0.0 if share == 0.0 else max(middle - half_width, 0.0),
        1.0 if share == 1.0 else min(middle + half_width, 1.0),
    )
