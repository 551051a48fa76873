"""Corrects the p-values of several comparisons, so that with probability 95 % no chance difference is called significant.

Source: S. Holm (1979), Scandinavian Journal of Statistics 6:65. SciPy has no Holm correction.
"""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's corrected p-values, in the same order: the k-th smallest of m times m - k + 1, not falling, at most 1."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min((len(p_values) - rank) * p_values[place], 1.0))
        corrected[place] = largest
    return corrected
