import pytest

from r1exp.statistics.paired import mcnemar, paired_t


def outcomes(both: int, only_before: int, only_after: int, neither: int) -> tuple[list[bool], list[bool]]:
    cells = [(True, True)] * both + [(True, False)] * only_before
    cells += [(False, True)] * only_after + [(False, False)] * neither
    return [before for before, _ in cells], [after for _, after in cells]


@pytest.mark.parametrize(
    ("cells", "difference", "low", "high", "p_value"),
    [
        # Fagerland, Lydersen and Laake (2017), Statistical Analysis of Contingency Tables, chapter 8;
        # the second with the same figures in the tests of the R package contingencytables.
        pytest.param((1, 1, 7, 12), 0.2857, 0.026, 0.507, 0.0703, id="Bentur 2009"),
        pytest.param((59, 6, 16, 80), 0.0621, 0.0046, 0.1186, 0.052479, id="Cavo 2012"),
    ],
)
def test_the_paired_difference_equals_published_values(
    cells: tuple[int, int, int, int], difference: float, low: float, high: float, p_value: float
) -> None:
    test = mcnemar(*outcomes(*cells))
    assert test.difference == pytest.approx(difference, abs=5e-5)
    assert (test.low, test.high) == pytest.approx((low, high), abs=5e-4)
    assert test.p_value == pytest.approx(p_value, abs=5e-5)
    assert (test.n, test.only_before, test.only_after) == (sum(cells), cells[1], cells[2])


@pytest.mark.parametrize(
    ("only_before", "only_after", "p_value"),
    [
        pytest.param(0, 0, 1.0, id="nothing changed"),
        pytest.param(3, 3, 1.0, id="even"),
        pytest.param(0, 5, 2 / 32, id="2 * 1/32"),
        pytest.param(1, 7, 2 * (1 + 8) / 256, id="2 * 9/256"),
        pytest.param(700, 900, 6.4e-7, id="many: z = 5 with continuity correction"),
    ],
)
def test_the_p_value_is_that_of_the_exact_binomial_test(
    only_before: int, only_after: int, p_value: float
) -> None:
    test = mcnemar(*outcomes(10, only_before, only_after, 10))
    assert test.p_value == pytest.approx(p_value, rel=0.05)


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


def test_the_paired_t_test_equals_published_values() -> None:
    # Student (1908), Biometrika 6:1, table of hours of sleep gained; t = 4.0621, p = 0.00283.
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    test = paired_t(first, second)
    assert test.difference == pytest.approx(1.58)
    assert test.p_value == pytest.approx(0.002833, abs=5e-7)
    assert (test.low, test.high) == pytest.approx((0.7001, 2.4599), abs=5e-5)
    assert (test.only_before, test.only_after) == (0, 9)


@pytest.mark.parametrize(("shift", "p_value"), [(0.0, 1.0), (0.5, 0.0)])
def test_equal_differences_have_p_value_zero_or_one(shift: float, p_value: float) -> None:
    assert paired_t([0.0, 0.5], [0.0 + shift, 0.5 + shift]).p_value == p_value


@pytest.mark.parametrize("num_after", [0, 2])
def test_lists_of_different_lengths_are_refused(num_after: int) -> None:
    with pytest.raises(ValueError, match="same problems"):
        mcnemar([True] * 3, [True] * num_after)
