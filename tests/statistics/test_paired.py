import numpy as np
import pytest
from scipy.stats import binom, binomtest, t, ttest_rel

from r1exp.statistics.paired import mcnemar, mid_p, paired_t


def outcomes(both: int, only_before: int, only_after: int, neither: int) -> tuple[list[bool], list[bool]]:
    cells = [(True, True)] * both + [(True, False)] * only_before
    cells += [(False, True)] * only_after + [(False, False)] * neither
    return [before for before, _ in cells], [after for _, after in cells]


@pytest.mark.parametrize(
    ("cells", "low", "high", "exact_p"),
    [
        # Fagerland, Lydersen and Laake (2017), Statistical Analysis of Contingency Tables, chapter 8;
        # the second with the same figures in the tests of the R package contingencytables.
        pytest.param((1, 1, 7, 12), 0.026, 0.507, 0.0703, id="Bentur 2009"),
        pytest.param((59, 6, 16, 80), 0.0046, 0.1186, 0.052479, id="Cavo 2012"),
    ],
)
def test_a_difference_of_one_answer_each_is_near_published_values(
    cells: tuple[int, int, int, int], low: float, high: float, exact_p: float
) -> None:
    # Published are Newcombe's interval from Wilson's bounds, and the exact test; mid-P is less by half the observed.
    test = mcnemar(*outcomes(*cells))
    assert test.difference == (cells[2] - cells[1]) / sum(cells)
    assert (test.low, test.high) == pytest.approx((low, high), abs=0.025)
    observed = binom.pmf(cells[1], cells[1] + cells[2], 0.5)
    assert test.p_value == pytest.approx(exact_p - observed, abs=5e-5)
    assert (test.n, test.only_before, test.only_after) == (sum(cells), cells[1], cells[2])


@pytest.mark.parametrize(
    ("only_before", "only_after"), [(0, 0), (3, 3), (0, 5), (1, 7), (40, 60), (700, 900), (2000, 2100)]
)
def test_the_p_value_is_scipys_binomial_test_less_half_the_observed(
    only_before: int, only_after: int
) -> None:
    changed = only_before + only_after
    expected = 1.0
    if only_before != only_after:
        exact = binomtest(only_before, changed).pvalue
        expected = exact - binom.pmf(only_before, changed, 0.5)
    assert mid_p(only_before, only_after) == pytest.approx(expected, rel=1e-6)


def test_swapping_before_and_after_negates_the_difference() -> None:
    before, after = outcomes(30, 4, 14, 20)
    there, back = mcnemar(before, after), mcnemar(after, before)
    assert back.p_value == there.p_value
    assert (-back.difference, -back.high, -back.low) == pytest.approx(
        (there.difference, there.low, there.high)
    )


@pytest.mark.parametrize("cells", [(5, 0, 0, 0), (0, 0, 0, 5), (0, 5, 0, 0)])
def test_an_empty_margin_gives_a_valid_interval(cells: tuple[int, int, int, int]) -> None:
    test = mcnemar(*outcomes(*cells))
    assert -1.0 <= test.low <= test.difference <= test.high <= 1.0


def answers(*correct: int, of: int) -> list[list[bool]]:
    return [[True] * number + [False] * (of - number) for number in correct]


def test_the_p_value_of_several_answers_is_scipys_paired_t_test() -> None:
    random = np.random.default_rng(1)
    before, after = random.binomial(8, 0.4, size=60), random.binomial(8, 0.5, size=60)
    test = paired_t(answers(*before, of=8), answers(*after, of=8))
    assert test.p_value == pytest.approx(ttest_rel(after / 8, before / 8).pvalue)
    assert test.difference == pytest.approx((after - before).mean() / 8)
    half = t.ppf(0.975, 59) * (after - before).std(ddof=1) / 8 / np.sqrt(60)
    assert (test.low, test.high) == pytest.approx((test.difference - half, test.difference + half), abs=0.02)


def test_equal_differences_have_an_interval_with_a_width_and_a_p_value_above_0() -> None:
    # 16 problems, each answered twice, 2 answers wrong, before and after alike.
    same = answers(*[2] * 14, 1, 1, of=2)
    unchanged = paired_t(same, same)
    assert (unchanged.difference, unchanged.p_value) == (0.0, 1.0)
    assert unchanged.low < -0.05
    assert unchanged.high > 0.05
    better = paired_t(answers(*[0] * 16, of=2), answers(*[1] * 16, of=2))
    assert better.p_value == 2.0**-15  # all of 16 signs alike
    assert better.low < 0.5 < better.high
    assert better.high - better.low > 0.2


def test_few_changed_problems_are_no_evidence() -> None:
    # 4 of 1,000 problems became better, none worse: Student's t would give p = 0.045, a sign test 0.125.
    before = answers(*[1] * 1000, of=2)
    test = paired_t(before, answers(*[2] * 4, *[1] * 996, of=2))
    assert test.p_value == 0.125
    assert test.low < 0.0


@pytest.mark.parametrize("num_after", [0, 2])
def test_lists_of_different_lengths_are_refused(num_after: int) -> None:
    with pytest.raises(ValueError, match="same problems"):
        mcnemar([True] * 3, [True] * num_after)
    with pytest.raises(ValueError, match="same problems"):
        paired_t([[True]] * 3, [[True]] * num_after)
