import pytest

from r1exp.statistics.intervals import clustered_proportion, mean_interval, proportion
from r1exp.statistics.student import quantile_975, two_sided_p


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_equals_published_values(successes: int, n: int, low: float, high: float) -> None:
    # R. G. Newcombe (1998), Statistics in Medicine 17:857, table I, method 3.
    interval = proportion(successes, n)
    assert (interval.value, interval.n) == (successes / n, n)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_an_impossible_proportion_is_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="is not a proportion"):
        proportion(successes, n)


@pytest.mark.parametrize(
    ("df", "expected"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (10, 2.228), (30, 2.042), (120, 1.980)],
)
def test_students_quantile_equals_the_tabulated_value(df: int, expected: float) -> None:
    # Abramowitz and Stegun (1964), table 26.10.
    assert quantile_975(df) == pytest.approx(expected, abs=5e-4)
    assert two_sided_p(-quantile_975(df), df) == pytest.approx(0.05)


def test_t_of_zero_has_p_value_one() -> None:
    assert [two_sided_p(0.0, df) for df in (1, 2, 7)] == [1.0, 1.0, 1.0]


def test_one_trial_per_cluster_gives_an_ordinary_proportion() -> None:
    assert clustered_proportion([[True], [False], [True]]) == proportion(2, 3)


def test_trials_that_agree_within_clusters_count_once_per_cluster() -> None:
    # 4 problems of 10 equal answers: var(p) = 4/3 * 4 * 5² / 40² = 1/12, so n* = 0.25 * 12 = 3.
    interval = clustered_proportion([[True] * 10, [False] * 10] * 2)
    # Wilson at p = 1/2, n* = 3: z² = 3.8415, half width = 1.96 / 2.2805 * sqrt(1/12 + 3.8415/36) = 0.3747
    three_trials = (0.1253, 0.8747)
    assert (interval.value, interval.n) == (0.5, 4)
    assert (interval.low, interval.high) == pytest.approx(three_trials, abs=5e-4)


def test_trials_spread_evenly_over_clusters_count_as_independent() -> None:
    interval = clustered_proportion([[True, False]] * 10)
    independent = proportion(10, 20)
    assert (interval.low, interval.high) == (independent.low, independent.high)


def test_an_interval_is_never_narrower_than_that_of_independent_trials() -> None:
    # p = 11/20, var(p) = 10/9 * 0.9 / 400 = 1/400, so n* would be 0.2475 * 400 = 99 of 20 trials.
    interval = clustered_proportion([[True, False]] * 9 + [[True, True]])
    independent = proportion(11, 20)
    assert (interval.low, interval.high) == (independent.low, independent.high)


@pytest.mark.parametrize("outcome", [True, False])
def test_without_variation_each_cluster_counts_once(outcome: bool) -> None:
    interval = clustered_proportion([[outcome] * 8] * 20)
    expected = proportion(20 * outcome, 20)
    assert (interval.low, interval.high) == (expected.low, expected.high)


def test_the_interval_of_a_mean_uses_students_t() -> None:
    # 1, 2, 3: standard deviation 1, t(2) = 4.3027, so 2 ± 4.3027 / sqrt(3).
    interval = mean_interval([[1.0], [2.0], [3.0]])
    assert (interval.value, interval.n) == (2.0, 3)
    assert interval.high - 2.0 == pytest.approx(2.4841, abs=5e-5)
    assert 2.0 - interval.low == pytest.approx(2.4841, abs=5e-5)


def test_repeated_values_within_clusters_do_not_narrow_the_interval() -> None:
    assert mean_interval([[1.0] * 5, [2.0] * 5, [3.0] * 5]) == mean_interval([[1.0], [2.0], [3.0]])


@pytest.mark.parametrize("clusters", [[], [[1.0]], [[1.0], []]])
def test_too_few_clusters_are_refused(clusters: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="at least two"):
        mean_interval(clusters)
