"""Computes main effects and two-way interactions of a designed experiment, with intervals.

Runs r have the value y[r, i] on problem i, the indices of their factors' values, and a seed. The model is least squares

    y[r] = mean + seed + main effects + two-way interactions + luck of the run

An effect is a weighted sum of runs, e = sum c[r] y[r], with the weights of the least squares:

    main effect    of a value against the first value of the factor, on average over the values of the other factors
    interaction    by how much the main effect of one factor is larger at a value of the other than at its first value

Interval, the square of the distance to each bound, for R runs, N problems and df = R - parameters:

    t(N-1)² var(e[i]) / N + max(0, t(df)² s² - t(N-1)² s²_rest / N) sum c²

e[i] is the effect on problem i, s² the residual mean square of the runs' means, which holds training seeds and sampling, and s²_rest
that of runs and problems together: the interval of r1exp.statistics.crossed for sums of runs. It holds the luck of problems, sampling
and seeds. Without values of single problems it is t(df) s sqrt(sum c²), which holds seeds and sampling, for these problems.
The runs' luck has one variance for all settings, which gives it many degrees of freedom where each setting has few seeds.

Sources: G. E. P. Box, J. S. Hunter and W. G. Hunter (2005), Statistics for Experimenters, chapters 5 and 6; F. A. Graybill and C. M. Wang
(1980), JASA 75:869. Coverage: docs/design-of-experiments.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from r1exp.statistics.intervals import ALPHA
from r1exp.statistics.student import quantile

_ZERO = 1e-9


@dataclass(frozen=True, slots=True)
class Contrast:
    """What is estimated: a main effect (one factor) or an interaction (two), at a value of each other than the first."""

    factors: tuple[int, ...]
    levels: tuple[int, ...]
    confounded: tuple[tuple[int, ...], ...] = ()  # effects that the runs cannot tell from it


@dataclass(frozen=True, slots=True)
class Effect:
    """An estimated effect with its 95 % interval and p-value; None where nothing tells the luck of runs or problems."""

    contrast: Contrast
    value: float
    low: float | None
    high: float | None
    p_value: float | None


class Fit:
    """The least squares of a design.

    Args:
        levels: Values of each factor, their number.
        rows: For each run, the index of the value of each factor.
        blocks: For each run, what identifies its seed.
        interactions: Whether two-way interactions are part of the model, as far as the runs tell them.

    Raises:
        ValueError: the runs do not tell the main effects.
    """

    def __init__(
        self,
        levels: Sequence[int],
        rows: Sequence[Sequence[int]],
        blocks: Sequence[str],
        *,
        interactions: bool = True,
    ) -> None:
        import numpy as np

        self._codes = [_codes(number) for number in levels]
        self._rows = np.array(rows, dtype=int)
        names = sorted(set(blocks))
        columns = [np.ones(len(rows))] + [
            np.array([float(block == name) for block in blocks]) for name in names[1:]
        ]
        self._places: dict[tuple[int, ...], range] = {}
        self._same: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for factor in range(len(levels)):
            self._add(columns, (factor,))
        if np.linalg.matrix_rank(np.stack(columns, axis=1)) < len(columns):
            raise ValueError(f"{len(rows)} runs do not tell the main effects of {len(levels)} factors")
        for pair in combinations(range(len(levels)), 2):
            self._add_interaction(columns, pair, interactions)
        matrix = np.stack(columns, axis=1)
        self._solve = np.linalg.pinv(matrix)  # (parameters, runs)
        self._residual = np.eye(len(rows)) - matrix @ self._solve
        self.degrees = len(rows) - matrix.shape[1]
        self.contrasts = tuple(self._contrasts(levels))

    def _columns(self, effect: tuple[int, ...]) -> list[Any]:
        """Return the columns of an effect: all products of the codes of its factors."""
        parts = [self._codes[factor][self._rows[:, factor]] for factor in effect]
        if len(parts) == 1:
            return list(parts[0].T)
        return [first * second for first in parts[0].T for second in parts[1].T]

    def _add(self, columns: list[Any], effect: tuple[int, ...]) -> None:
        new = self._columns(effect)
        self._places[effect] = range(len(columns), len(columns) + len(new))
        columns += new

    def _add_interaction(self, columns: list[Any], pair: tuple[int, ...], wanted: bool) -> None:
        """Add an interaction if the runs tell it from what is there; else note which effect it is confounded with."""
        import numpy as np

        new = self._columns(pair)
        same = next((effect for effect in self._places if _spans(self._columns(effect), new)), None)
        if same is not None:
            self._same.setdefault(same, []).append(pair)
        elif wanted:
            whole = np.stack([*columns, *new], axis=1)
            if np.linalg.matrix_rank(whole) == whole.shape[1]:
                self._add(columns, pair)

    def _contrasts(self, levels: Sequence[int]) -> Sequence[Contrast]:
        return [
            Contrast(effect, chosen, tuple(self._same.get(effect, ())))
            for effect in self._places
            for chosen in product(*(range(1, levels[factor]) for factor in effect))
        ]

    def weights(self, contrast: Contrast) -> Any:
        """Return the weight of each run in an effect, an array (R)."""
        steps = [
            self._codes[factor][level] - self._codes[factor][0]
            for factor, level in zip(contrast.factors, contrast.levels, strict=True)
        ]
        of_columns = steps[0] if len(steps) == 1 else (steps[0][:, None] * steps[1][None, :]).ravel()
        return of_columns @ self._solve[list(self._places[contrast.factors])]

    def effects(self, values: Any, alpha: float = ALPHA) -> list[Effect]:
        """Return all effects.

        Args:
            values: An array (R, N) with the value of each run on each problem, or (R) with the mean of each run.
            alpha: Probability that an interval does not hold the true effect.
        """
        import numpy as np

        table = np.asarray(values, dtype=float)
        table = table.reshape(len(table), -1)
        return [self._effect(contrast, table, alpha) for contrast in self.contrasts]

    def _effect(self, contrast: Contrast, table: Any, alpha: float) -> Effect:
        weights = self.weights(contrast)
        value = float((weights @ table).mean())

        def half(level: float) -> float:
            return float(self.distances(weights[None], table[None], level)[0])

        width = half(alpha)
        if not width > 0.0:
            return Effect(contrast, value, None, None, None)
        return Effect(contrast, value, value - width, value + width, _p_value(half, abs(value)))

    def distances(self, weights: Any, tables: Any, alpha: float) -> Any:
        """Return the distance of the bounds from each effect.

        Args:
            weights: An array (..., R).
            tables: Values, an array (..., R, N).
            alpha: Probability that an interval does not hold the true effect.
        """
        import numpy as np

        num = tables.shape[-1]
        squares = (weights**2).sum(axis=-1)
        bound = np.zeros(tables.shape[:-2])
        rest, problems = 0.0, 0.0
        residuals = np.einsum("rs,...sn->...rn", self._residual, tables) if self.degrees else None
        if num > 1:
            problems = float(quantile(num - 1, alpha)) ** 2
            bound = problems * np.einsum("...r,...rn->...n", weights, tables).var(axis=-1, ddof=1) / num
        if residuals is not None:
            means = residuals.mean(axis=-1, keepdims=True)
            of_runs = (means**2).sum(axis=(-2, -1)) / self.degrees
            if num > 1:
                rest = ((residuals - means) ** 2).sum(axis=(-2, -1)) / (self.degrees * (num - 1))
            runs = float(quantile(self.degrees, alpha)) ** 2
            bound = bound + np.maximum(runs * of_runs - problems * rest / num, 0.0) * squares
        return np.sqrt(bound)


def _codes(number: int) -> Any:
    """Return the sum-to-zero codes of a factor's values, an array (number, number - 1)."""
    import numpy as np

    return np.vstack([-np.ones(number - 1), np.eye(number - 1)])


def _spans(columns: Sequence[Any], new: Sequence[Any]) -> bool:
    """Whether two lists of columns, each without their mean, span the same space: their effects are the same sums of runs."""
    import numpy as np

    if len(columns) != len(new):
        return False
    sides = [np.stack(side, axis=1) for side in (columns, new)]
    sides = [side - side.mean(axis=0) for side in sides]
    both = np.concatenate(sides, axis=1)
    ranks = [np.linalg.matrix_rank(side, tol=_ZERO) for side in (*sides, both)]
    return bool(ranks[0] == ranks[1] == ranks[2] > 0)


def _p_value(half: Any, distance: float) -> float:
    """Return the smallest alpha whose interval excludes 0, by bisection of its logarithm; at least 1e-9."""
    if distance == 0.0:
        return 1.0
    least, most = -9.0, 0.0  # powers of ten
    for _ in range(30):
        middle = (least + most) / 2.0
        if half(10.0**middle) < distance:
            most = middle
        else:
            least = middle
    return float(10.0**most)
