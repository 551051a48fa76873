"""Confidence sequences hold at all times, and races decide by them."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from r1exp.statistics.confidence_sequence import critical_t, fewest_pairs, log_e_value, lower_bounds
from r1exp.statistics.racing import Pairs, Rules, decide, expected_runs, pairs_of, raced, share_of

RULES = Rules(first=3, most=6, runs=100, delta=0.01, alpha=0.05)


@pytest.mark.parametrize(("t", "n"), [(0.0, 2), (3.0, 4), (-2.0, 5), (6.0, 6)])
def test_the_e_value_is_the_average_likelihood_ratio_over_half_normal_effects(t: float, n: int) -> None:
    u = t / math.sqrt(t * t + n - 1)

    def likelihood(effect: float) -> float:  # of t, over its likelihood without an effect
        def inner(x: float, shift: float) -> float:
            return x ** (n - 1) * math.exp(-x * x / 2 + shift * x)

        top, _ = quad(inner, 0, 40, args=(effect * math.sqrt(n) * u,), limit=200)
        bottom, _ = quad(inner, 0, 60, args=(0.0,), limit=200)
        return math.exp(-n * effect * effect / 2) * top / bottom

    average, _ = quad(lambda effect: 2 * norm.pdf(effect, scale=3.0) * likelihood(effect), 0, 12, limit=200)
    assert math.exp(log_e_value(t, n)) == pytest.approx(average, rel=1e-4)


def test_the_bound_is_the_mean_that_is_just_not_rejected() -> None:
    differences = [2.0, 3.0, 2.5, 3.5, 2.2]
    bound = lower_bounds(differences, 0.05)[-1]
    t = (np.mean(differences) - bound) * math.sqrt(5) / np.std(differences, ddof=1)
    assert math.exp(log_e_value(t, 5)) == pytest.approx(20.0)
    assert math.isinf(critical_t(1, 0.05))
    assert fewest_pairs(0.05) == 3
    assert fewest_pairs(0.05 / 6) == 4


def test_a_bound_is_never_lowered_and_equal_differences_are_given_a_spread() -> None:
    bounds = lower_bounds([1.0, 1.1, 0.9, 1.0, -5.0], 0.05)
    assert bounds == sorted(bounds)
    assert lower_bounds([0.1] * 4, 0.05, least_spread=0.01)[-1] < 0.1


def test_all_bounds_hold_together_in_95_of_100_sequences() -> None:
    scores = np.random.default_rng(3).standard_normal((4000, 2, 30))
    wrong = (pairs_of(scores, 0.05).bounds[:, 0, 1, -1] > 0).mean()
    assert 0.01 < wrong < 0.05


def test_the_pairs_of_a_table_are_those_of_the_sequence() -> None:
    scores = [[0.5, 0.6, 0.55, 0.61, 0.58], [0.3, 0.41, 0.33, 0.4, math.nan]]
    pairs = pairs_of(scores, 0.05)
    differences = [a - b for a, b in zip(*scores, strict=True)]
    means, bounds = pairs.at([5, 4])
    assert means[0, 1] == pytest.approx(np.mean(differences[:4]))
    assert bounds[0, 1] == pytest.approx(lower_bounds(differences[:4], 0.05)[-1])


def decided(
    scores: list[list[float]], counts: list[int], rules: Rules = RULES
) -> tuple[str, int, tuple[int, ...]]:
    pairs = pairs_of(scores, share_of(rules.alpha, len(scores)))
    found = decide(*pairs.at(counts), counts, rules)
    return found.state, found.leader, found.following


BEST = [0.80, 0.82, 0.79, 0.81, 0.80, 0.83]
NEXT = [0.79, 0.80, 0.80, 0.80, 0.78, 0.84]
POOR = [0.20, 0.21, 0.20, 0.20, 0.21, 0.20]


@pytest.mark.parametrize(
    ("scores", "counts", "expected"),
    [
        pytest.param([BEST, NEXT, POOR], [3, 2, 3], ("racing", 0, (1,)), id="first seeds come first"),
        pytest.param(
            [BEST, NEXT, POOR], [3, 3, 3], ("racing", 0, (0, 1)), id="the poor one gets no further seed"
        ),
        pytest.param([BEST, NEXT, POOR], [5, 4, 3], ("racing", 0, (1,)), id="who is behind catches up"),
        pytest.param([BEST, NEXT, POOR], [6, 6, 3], ("spent", 0, ()), id="no seed is left"),
        pytest.param([POOR, BEST], [3, 3], ("decided", 1, ()), id="decided"),
    ],
)
def test_what_follows_from_known_runs(
    scores: list[list[float]], counts: list[int], expected: tuple[str, int, tuple[int, ...]]
) -> None:
    assert decided(scores, counts) == expected


def test_the_number_of_runs_ends_a_race_too() -> None:
    rules = Rules(first=3, most=6, runs=10, delta=0.01, alpha=0.05)
    assert decided([BEST, NEXT, POOR], [3, 3, 3], rules)[0] == "spent"


def test_a_larger_indifference_zone_ends_a_tie() -> None:
    wide = Rules(first=3, most=6, runs=100, delta=0.1, alpha=0.05)
    assert decided([BEST, NEXT], [4, 4])[0] == "racing"
    assert decided([BEST, NEXT], [4, 4], wide)[0] == "decided"


def test_races_rarely_choose_a_setting_that_is_worse_by_more_than_delta() -> None:
    generator = np.random.default_rng(11)
    rules = Rules(first=3, most=25, runs=1000, delta=1.0, alpha=0.05)
    scores = generator.standard_normal((300, 4, 25)) + np.array([0.0, -1.01, -1.01, -1.01])[:, None]
    pairs = pairs_of(scores, share_of(0.05, 4))
    found = [raced(each, Pairs(pairs.means[i], pairs.bounds[i]), rules)[0] for i, each in enumerate(scores)]
    false = sum(each.state == "decided" and each.leader != 0 for each in found)
    assert false <= 15  # 5 %
    assert sum(each.state == "decided" for each in found) > 200


def test_far_settings_need_fewer_runs_than_close_ones() -> None:
    rules = Rules(first=4, most=20, runs=1000, delta=0.01, alpha=0.05)
    far, _ = expected_runs(7, rules, 0.2, 0.02, races=30)
    close, _ = expected_runs(7, rules, 0.01, 0.02, races=30)
    assert far < 50 < close
