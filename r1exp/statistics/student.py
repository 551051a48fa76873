"""Returns probabilities and quantiles of Student's t distribution, from SciPy.

SciPy is imported where it is used: it takes 0.3 s, and `r1exp plan` needs none of it.
"""

from typing import Any


def two_sided_p(t: float, df: float) -> float:
    """Return P(|T| >= |t|) for Student's t with `df` degrees of freedom.

    Raises:
        ValueError: `df` is not positive.
    """
    from scipy.special import stdtr

    if df <= 0:
        raise ValueError(f"{df} degrees of freedom; more than 0 are needed")
    return float(2.0 * stdtr(df, -abs(t)))


def quantile(df: Any, alpha: float = 0.05) -> Any:
    """Return the quantile between whose negative and itself lies 1 - alpha of the distribution; infinity for no degree.

    Args:
        df: Degrees of freedom, a number or an array.
        alpha: Probability outside, both sides together.
    """
    import numpy as np
    from scipy.special import stdtrit

    found = np.where(np.asarray(df) > 0, stdtrit(np.maximum(df, 1e-9), 1.0 - alpha / 2.0), np.inf)
    return found if found.ndim else float(found)
