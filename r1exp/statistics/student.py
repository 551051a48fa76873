"""Computes Student's t distribution for integer degrees of freedom, in closed form.

Source: Abramowitz and Stegun (1964), 26.7.3 (odd) and 26.7.4 (even); t = tan(angle) * sqrt(df).
"""

import math


def two_sided_p(t: float, df: int) -> float:
    """Return P(|T| >= |t|) for Student's t with `df` degrees of freedom.

    Raises:
        ValueError: `df` is less than 1.
    """
    if df < 1:
        raise ValueError(f"{df} degrees of freedom; at least one is needed")
    angle = math.atan(abs(t) / math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    if df % 2:
        term, total = cosine, 0.0
        for k in range(1, df, 2):  # cos + 2/3 cos^3 + (2*4)/(3*5) cos^5 + ...
            total += term
            term *= cosine**2 * (k + 1) / (k + 2)
        inside = 2.0 / math.pi * (angle + sine * total)
    else:
        term, total = 1.0, 0.0
        for k in range(0, df, 2):  # 1 + 1/2 cos^2 + (1*3)/(2*4) cos^4 + ...
            total += term
            term *= cosine**2 * (k + 1) / (k + 2)
        inside = sine * total
    return min(max(1.0 - inside, 0.0), 1.0)


def quantile_975(df: int) -> float:
    """Return the 0.975 quantile: 95 % of the distribution lies between -t and t. Found by bisection."""
    low, high = 0.0, 16.0  # the quantile is 12.706 for one degree of freedom, and smaller for more
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if two_sided_p(middle, df) > 0.05 else (low, middle)
    return (low + high) / 2.0
