"""Intervals over training seeds and problems."""

import numpy as np
import pytest

from r1exp.statistics.crossed import crossed_difference, crossed_proportion, seed_part
from r1exp.statistics.intervals import clustered_proportion
from r1exp.statistics.student import quantile

Run = list[list[bool]]


def run_of(random: np.random.Generator, chances: np.ndarray, answers: int = 4) -> Run:
    return [[bool(each) for each in random.random(answers) < chance] for chance in chances]


def test_mean_squares_are_those_of_the_analysis_of_variance() -> None:
    values = np.random.default_rng(0).normal(size=(3, 5))
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    seed = 5 * rows.var(ddof=1)
    rest = ((values - rows[:, None] - columns + values.mean()) ** 2).sum() / (2 * 4)
    expected = max(quantile(2) ** 2 * seed - quantile(4) ** 2 * rest, 0.0) / 15
    assert seed_part(values) == pytest.approx(expected)


def test_runs_that_differ_by_chance_alone_are_pooled_and_runs_that_differ_by_more_are_not() -> None:
    random = np.random.default_rng(1)
    chances = random.beta(1, 1, size=200)
    alike = [run_of(random, chances) for _ in range(5)]
    pooled = clustered_proportion([[each for run in alike for each in run[i]] for i in range(200)])
    interval = crossed_proportion(alike)
    assert (interval.value, interval.n) == (pytest.approx(pooled.value), 5)
    assert interval.high - interval.low < 1.3 * (pooled.high - pooled.low)
    apart = [run_of(random, np.clip(chances + shift, 0, 1)) for shift in (-0.3, -0.1, 0.0, 0.1, 0.3)]
    assert crossed_proportion(apart).low < 0.3


def test_a_difference_of_two_seeds_needs_more_than_a_difference_of_five() -> None:
    random = np.random.default_rng(2)
    chances = random.beta(1, 1, size=300)
    before = [run_of(random, chances) for _ in range(5)]
    after = [run_of(random, np.clip(chances + 0.1 + 0.02 * random.normal(), 0, 1)) for _ in range(5)]
    two, five = crossed_difference(before[:2], after[:2]), crossed_difference(before, after)
    assert five.high - five.low < two.high - two.low
    assert five.p_value < 0.05
    assert five.low > 0.0
    assert (five.num_seeds, five.num_problems) == (5, 300)


def test_the_p_value_agrees_with_the_interval() -> None:
    random = np.random.default_rng(3)
    chances = random.beta(1, 1, size=60)
    for shift in (0.0, 0.05, 0.1, 0.2):
        before = [run_of(random, chances) for _ in range(3)]
        after = [run_of(random, np.clip(chances + shift, 0, 1)) for _ in range(3)]
        test = crossed_difference(before, after)
        assert (test.p_value < 0.05) == (test.low > 0.0 or test.high < 0.0)


def test_seeds_without_any_difference_have_an_interval_with_a_width() -> None:
    same = [[[True, True]] * 20] * 3
    test = crossed_difference(same, same)
    assert (test.difference, test.p_value) == (0.0, 1.0)
    assert test.low < -0.05


def test_runs_with_different_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="same problems"):
        crossed_proportion([[[True]] * 3, [[True]] * 4])
    with pytest.raises(ValueError, match="at least two runs"):
        crossed_proportion([[[True]] * 3])
