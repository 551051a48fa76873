"""Designs: which combinations run, and which effects they cannot tell apart."""

import pytest

from r1exp.statistics import designs
from r1exp.statistics.designs import NoDesignError


@pytest.mark.parametrize(
    ("factors", "resolution", "runs"),
    [(3, 3, 4), (4, 4, 8), (5, 5, 16), (5, 3, 8), (6, 4, 16)],
)
def test_a_fraction_is_the_smallest_with_its_resolution(factors: int, resolution: int, runs: int) -> None:
    rows, _ = designs.fractional(factors, resolution)
    assert len(rows) == runs and designs.resolution_of(rows) >= resolution
    assert all(sum(row[factor] for row in rows) == runs // 2 for factor in range(factors))


def test_a_half_of_four_factors_confounds_pairs_of_interactions_alone() -> None:
    rows, _ = designs.fractional(4, 4)
    assert designs.confounded(rows) == [[(0, 1), (2, 3)], [(0, 2), (1, 3)], [(0, 3), (1, 2)]]


def test_a_plackett_burman_design_mixes_main_effects_with_a_third_of_interactions() -> None:
    rows = designs.plackett_burman(9)
    assert len(rows) == 12 and designs.confounded(rows, most=1) == []
    assert designs.partly_confounded(rows) == pytest.approx(1 / 3)


def test_in_a_latin_square_each_two_values_meet_once() -> None:
    rows = designs.latin((3, 3, 3))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert len({(row[first], row[second]) for row in rows}) == 9


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: designs.fractional(2, 3), id="two factors"),
        pytest.param(lambda: designs.fractional(4, 6), id="a resolution beyond the factors"),
        pytest.param(lambda: designs.fractional(8, 4), id="too many factors"),
        pytest.param(lambda: designs.plackett_burman(2), id="Plackett-Burman of two"),
        pytest.param(lambda: designs.latin((3, 3)), id="a square of two factors"),
        pytest.param(lambda: designs.latin((3, 3, 2)), id="unequal numbers of values"),
    ],
)
def test_factors_that_do_not_fit_are_refused(build: object) -> None:
    with pytest.raises(NoDesignError):
        build()  # type: ignore[operator]  # of the list above
