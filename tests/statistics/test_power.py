"""Which differences a sweep can see."""

import numpy as np
import pytest
from scipy.stats import nct, t

from r1exp.statistics.components import Table, estimated, squares_of
from r1exp.statistics.crossed import crossed_bounds
from r1exp.statistics.power import Components, Size, detectable, needed, power_of

PRIOR = Components(seed=2 * 0.02**2, problem=0.0, rest=0.0, sampling=0.25)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_without_luck_of_problems_the_power_is_that_of_the_t_test(seeds: int) -> None:
    components, difference = Components(seed=0.03**2, problem=0.0, rest=0.0, sampling=0.0), 0.04
    far, shift = t.isf(0.025, seeds - 1), difference / (0.03 / seeds**0.5)
    expected = nct.sf(far, seeds - 1, shift) + nct.cdf(-far, seeds - 1, shift)
    assert power_of(difference, components, Size(seeds, 10**9)) == pytest.approx(expected, abs=0.005)


def test_without_luck_of_seeds_and_with_one_seed_the_power_is_that_of_the_paired_test() -> None:
    components = Components(seed=9.0, problem=0.0, rest=0.0, sampling=0.5)  # seeds do not count with one
    error, far = (0.5 / 400) ** 0.5, t.isf(0.025, 399)
    expected = nct.sf(far, 399, 0.1 / error)
    assert power_of(0.1, components, Size(1, 400)) == pytest.approx(expected, abs=0.01)


def test_the_detectable_difference_has_the_power_that_is_asked_for() -> None:
    size = Size(3, 500, 4, comparisons=5)
    least = detectable(PRIOR, size, 0.8)
    assert power_of(least, PRIOR, size) == pytest.approx(0.8, abs=1e-3)
    assert least > detectable(PRIOR, Size(3, 500, 4), 0.8)  # corrected for five comparisons


def test_the_needed_numbers_are_the_least_that_suffice() -> None:
    found = needed(0.03, PRIOR, Size(3, 1000))
    assert found.seeds is not None
    assert (
        power_of(0.03, PRIOR, Size(found.seeds, 1000))
        >= 0.8
        > power_of(0.03, PRIOR, Size(found.seeds - 1, 1000))
    )
    assert found.problems is None and found.samples is None  # three seeds are too few with any number of both


def test_the_predicted_power_is_found_in_simulations() -> None:
    random, size, seed_sd = np.random.default_rng(3), Size(4, 200), 0.03
    difference, sides = 0.1, []
    center = random.uniform(0.3, 0.6, size=(1500, 1, 200))
    for shift in (0.0, difference):
        chances = center + shift + random.normal(0.0, seed_sd, size=(1500, 4, 1))
        sides.append(random.binomial(1, chances).astype(float))
    low, high = crossed_bounds(sides[0], 1, sides[1], 1)
    sampling = float((center * (1 - center)).mean() + ((center + 0.1) * (0.9 - center)).mean())
    predicted = power_of(difference, Components(2 * seed_sd**2, 0.0, 0.0, sampling), size)
    assert float(np.mean((low > 0) | (high < 0))) == pytest.approx(predicted, abs=0.05)


def drawn(
    random: np.random.Generator, seeds: int, problems: int, samples: int, sd: float, rate: float
) -> np.ndarray:
    center = np.linspace(rate - 0.2, rate + 0.2, problems)
    chances = center + random.normal(0.0, sd, size=(seeds, 1))
    return np.asarray(random.binomial(samples, chances) / samples)


def test_components_are_estimated_from_settings_that_share_seeds() -> None:
    random = np.random.default_rng(0)
    tables = [
        Table(name, tuple(range(60)), drawn(random, 60, 300, 4, 0.04, rate), 4, "same")
        for name, rate in (("a", 0.4), ("b", 0.5))
    ]
    found = estimated(tables, PRIOR)
    assert found.runs == 120 and found.settings == 2 and found.pairs == 1 and found.seed_degrees == 59
    assert found.components.seed**0.5 == pytest.approx(0.04 * 2**0.5, rel=0.2)
    assert found.components.sampling == pytest.approx(2 * 0.235, rel=0.05)
    assert found.components.rest < 0.01


def test_seeds_of_one_setting_count_twice_for_a_difference() -> None:
    table = Table("a", tuple(range(80)), drawn(np.random.default_rng(1), 80, 300, 1, 0.04, 0.5), 1, "same")
    found = estimated([table], PRIOR)
    assert found.pairs == 0
    assert found.components.seed**0.5 == pytest.approx(0.04 * 2**0.5, rel=0.2)
    assert found.components.problem == PRIOR.problem


def test_without_runs_the_prior_is_used_and_few_runs_move_it_little() -> None:
    assert estimated([], PRIOR).components == PRIOR
    flat = Table("a", (1, 2), np.full((2, 50), 0.5), 2, "same")
    assert estimated([flat], PRIOR).components.seed == pytest.approx(
        PRIOR.seed / 2
    )  # one degree of freedom each


def test_mean_squares_are_those_of_the_two_way_table() -> None:
    found = squares_of(np.array([[0.0, 1.0], [0.5, 1.0]]), 2)
    assert found.seed == pytest.approx(2 * 2 * 0.125**2)
    assert found.problem == pytest.approx(2 * 2 * 0.375**2)
    assert found.rest == pytest.approx(4 * 0.125**2)
    assert found.sampling == pytest.approx(0.25 / 4 * 2)
