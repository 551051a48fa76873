import numpy as np
import pytest
from scipy.stats import binom, binomtest, t

from r1exp.statistics.intervals import Clusters, bounds, clustered_proportion, mean_interval, proportion
from r1exp.statistics.student import quantile, two_sided_p


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (1, 29), (15, 148), (81, 263), (148, 148)])
def test_an_interval_lies_between_those_of_clopper_and_pearson_and_of_mid_p(successes: int, n: int) -> None:
    interval = proportion(successes, n)
    exact = binomtest(successes, n).proportion_ci(method="exact")
    assert exact.low <= interval.low <= successes / n <= interval.high <= exact.high
    if (
        successes > 0
    ):  # the probability of at least the observed number, which counts three quarters, is 2.5 %
        tail = binom.sf(successes - 1, n, interval.low) - 0.25 * binom.pmf(successes, n, interval.low)
        assert tail == pytest.approx(0.025, abs=1e-9)
        half = binom.sf(successes - 1, n, interval.low) - 0.5 * binom.pmf(successes, n, interval.low)
        assert half < 0.025  # the mid-P bound is larger
    else:
        assert interval.low == 0.0


@pytest.mark.parametrize("n", [30, 100, 500])
def test_an_interval_covers_at_least_94_percent_at_every_rate(n: int) -> None:
    low, high = bounds(np.arange(n + 1), np.full(n + 1, n))
    rates = np.linspace(0.005, 0.995, 397)
    holds = (low[:, None] <= rates) & (rates <= high[:, None])
    cover = (binom.pmf(np.arange(n + 1)[:, None], n, rates) * holds).sum(axis=0)
    assert cover.min() > 0.94
    assert 0.95 < cover.mean() < 0.97


@pytest.mark.parametrize(
    ("rate", "problems", "answers", "rho"), [(0.005, 200, 8, 0.6), (0.02, 50, 8, 0.3), (0.5, 30, 2, 0.1)]
)
def test_an_interval_covers_94_percent_with_few_successes_that_share_problems(
    rate: float, problems: int, answers: int, rho: float
) -> None:
    # With the variance between problems as it is, the coverage of the first two is 89 and 91 %.
    random = np.random.default_rng(0)
    a, b = rate * (1 / rho - 1), (1 - rate) * (1 / rho - 1)
    counts = random.binomial(answers, random.beta(a, b, size=(4000, problems)))
    total = counts.sum(axis=1)
    sums = Clusters(
        problems, problems * answers, problems * answers**2, total, (counts**2).sum(axis=1), total * answers
    )
    low, high = sums.bounds()
    assert ((low <= rate) & (rate <= high)).mean() > 0.94


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_an_impossible_proportion_is_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="is not a proportion"):
        proportion(successes, n)


@pytest.mark.parametrize("df", [1, 2, 10, 120, 2.5])
def test_students_t_is_that_of_scipy(df: float) -> None:
    assert quantile(df) == pytest.approx(t.ppf(0.975, df))
    assert quantile(df, 0.01) == pytest.approx(t.ppf(0.995, df))
    assert two_sided_p(-quantile(df), df) == pytest.approx(0.05)
    assert two_sided_p(0.0, df) == 1.0


def test_one_trial_per_cluster_gives_an_ordinary_proportion() -> None:
    assert clustered_proportion([[True], [False], [True]]) == proportion(2, 3)


def test_trials_that_agree_within_clusters_count_once_per_cluster() -> None:
    sums = Clusters.of([[True] * 10, [False] * 10] * 50)
    factor = (quantile(999) / quantile(99)) ** 2
    assert sums.effective_number() == pytest.approx(100 * factor)


def test_trials_spread_evenly_over_clusters_count_as_independent() -> None:
    sums = Clusters.of([[True, False]] * 100)
    assert sums.effective_number() == pytest.approx(200 * (quantile(199) / quantile(99)) ** 2)


@pytest.mark.parametrize("outcome", [True, False])
def test_without_variation_each_cluster_counts_at_most_once(outcome: bool) -> None:
    interval, single = clustered_proportion([[outcome] * 8] * 20), proportion(20 * outcome, 20)
    assert interval.low <= single.low
    assert interval.high >= single.high
    assert interval.high - interval.low < 0.2


def test_one_problem_counts_once() -> None:
    interval = clustered_proportion([[True, False, False, False]])
    assert interval.value == 0.25
    assert interval.high - interval.low > 0.9


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
