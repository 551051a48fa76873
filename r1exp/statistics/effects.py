"""Computes main effects and two-way interactions of a designed experiment, with intervals.

Runs r have the value y[r, i] on problem i, the indices of their factors' values, and a seed. The model is least squares

    y[r] = mean + seed + main effects + two-way interactions + luck of the run

An effect is a weighted sum of runs, e = sum c[r] y[r], with the weights of the least squares:

    main effect    of a value against the first value of the factor, on average over the values of the other factors
    interaction    by how much the main effect of one factor is larger at a value of the other than at its first value

Interval, for R runs, N problems and n = R - parameters degrees of freedom:

    e +- t(f) sqrt(V)      V = max(P + S - W, 0.85 P)      P = var(e[i]) / N,  S = s² sum c²,  W = w² sum c² / N

e[i] is the effect on problem i, s² the residual mean square of the runs' means, which holds training seeds and sampling, and w² that
of runs and problems together. f are Satterthwaite's degrees of freedom of V, or N - 1 where S < W, where seeds show no luck of
their own. With P for 0.85 P the coverage is up to 97 %, because S - W is as often too small as too large. Below three degrees of freedom, where these say too much, it is the interval of r1exp.statistics.crossed. It holds the luck
of problems, sampling and seeds. Without values of single problems it is t(n) sqrt(S), which holds seeds and sampling, for these problems.
The runs' luck has one variance for all settings, which gives it many degrees of freedom where each setting has few seeds.

Sources: G. E. P. Box, J. S. Hunter and W. G. Hunter (2005), Statistics for Experimenters, chapters 5 and 6; F. E. Satterthwaite
(1946), Biometrics Bulletin 2:110; F. A. Graybill and C. M. Wang (1980), JASA 75:869. Coverage: docs/design-of-experiments.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from r1exp.statistics.intervals import ALPHA
from r1exp.statistics.student import quantile

_ZERO = 1e-9
_LEAST_SHARE = 0.85  # of the variance over problems that an effect has at least; chosen by simulation
_LEAST_DEGREES = 3  # of the runs' luck, from which Satterthwaite's approximation holds


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


@dataclass(frozen=True, slots=True)
class Luck:
    """What runs differ by beyond the model: variances of a run's mean, numbers or arrays."""

    of_runs: Any  # with training seeds and sampling
    rest: Any  # by problems, as if runs had no luck of their own


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
        luck = self.luck(table)
        return [self._effect(contrast, table, luck, alpha) for contrast in self.contrasts]

    def _effect(self, contrast: Contrast, table: Any, luck: "Luck", alpha: float) -> Effect:
        weights = self.weights(contrast)
        value = float((weights @ table).mean())

        def half(level: float) -> float:
            return float(self.distances(weights, table, luck, level))

        width, scale = half(alpha), float(abs(table).max())
        if not width > _ZERO * scale:  # nothing varies but rounding
            return Effect(contrast, value if abs(value) > _ZERO * scale else 0.0, None, None, None)
        return Effect(contrast, value, value - width, value + width, _p_value(half, abs(value)))

    def luck(self, tables: Any) -> "Luck":
        """Return the residual mean squares of values, an array (..., R, N)."""
        import numpy as np

        num = tables.shape[-1]
        if not self.degrees:
            return Luck(0.0, 0.0)
        residuals = self._residual @ tables
        means = residuals.mean(axis=-1, keepdims=True)
        of_runs = (means**2).sum(axis=(-2, -1)) / self.degrees
        if num == 1:
            return Luck(of_runs, np.zeros_like(of_runs))
        rest = ((residuals - means) ** 2).sum(axis=(-2, -1)) / (self.degrees * (num - 1))
        return Luck(of_runs, rest / num)

    def distances(self, weights: Any, tables: Any, luck: "Luck", alpha: float = ALPHA) -> Any:
        """Return the distance of the bounds from an effect.

        Args:
            weights: Of the effect, an array (R).
            tables: Values, an array (..., R, N).
            luck: Of these values.
            alpha: Probability that an interval does not hold the true effect.
        """
        import numpy as np

        num = tables.shape[-1]
        squares = (weights**2).sum()
        of_problems = (
            (weights @ tables).var(axis=-1, ddof=1) / num if num > 1 else np.zeros(tables.shape[:-2])
        )
        if not self.degrees:
            return quantile(num - 1, alpha) * np.sqrt(of_problems) if num > 1 else of_problems
        of_runs, rest, rest_degrees = squares * luck.of_runs, squares * luck.rest, self.degrees * (num - 1)
        if num == 1:
            return quantile(self.degrees, alpha) * np.sqrt(of_runs)
        if self.degrees < _LEAST_DEGREES:
            of_t = quantile(num - 1, alpha) ** 2
            return np.sqrt(
                of_t * of_problems
                + np.maximum(quantile(self.degrees, alpha) ** 2 * of_runs - of_t * rest, 0.0)
            )
        variance = np.maximum(of_problems + of_runs - rest, _LEAST_SHARE * of_problems)
        parts = of_problems**2 / (num - 1) + of_runs**2 / self.degrees + rest**2 / rest_degrees
        degrees = np.where(of_runs > rest, variance**2 / np.maximum(parts, 1e-300), num - 1)
        return quantile(np.maximum(degrees, 1.0), alpha) * np.sqrt(variance)


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
