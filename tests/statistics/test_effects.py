"""Main effects and interactions with intervals."""

import numpy as np
import pytest

from r1exp.statistics import designs
from r1exp.statistics.effects import Fit


def test_effects_without_luck_are_those_that_were_planted() -> None:
    rows = [row for row in designs.full((3, 2)) for _ in range(2)]
    blocks = ["1", "2"] * 6
    # 5 for a=1, 8 for a=2, 2 for b=1, and 4 more where a=2 and b=1; the second seed adds 10
    values = [
        [0, 5, 8][a] + 2 * b + 4 * (a == 2 and b == 1) + 10 * (block == "2")
        for (a, b), block in zip(rows, blocks, strict=True)
    ]
    fit = Fit((3, 2), rows, blocks)
    found = {(each.contrast.factors, each.contrast.levels): each.value for each in fit.effects(values)}
    assert found == pytest.approx(
        {((0,), (1,)): 5, ((0,), (2,)): 10, ((1,), (1,)): 2 + 4 / 3, ((0, 1), (1, 1)): 0, ((0, 1), (2, 1)): 4}
    )


def test_an_interval_is_that_of_least_squares_where_there_are_no_problems() -> None:
    rows = [row for row in designs.full((2, 2)) for _ in range(3)]
    values = np.random.default_rng(0).normal(size=12)
    (effect, *_) = Fit((2, 2), rows, ["1", "2", "3"] * 4).effects(values)
    table = values.reshape(4, 3)
    fitted = table.mean(axis=1, keepdims=True) + table.mean(axis=0, keepdims=True) - table.mean()
    error = (((table - fitted) ** 2).sum() / 6 * 12 / 36) ** 0.5  # 6 degrees of freedom; weights of 1/6
    assert effect.low is not None and effect.high is not None
    assert effect.high - effect.value == pytest.approx(2.446912 * error, rel=1e-5)
    assert effect.value == pytest.approx(table[2:].mean() - table[:2].mean())
    assert effect.p_value is not None and (effect.p_value < 0.05) == (effect.low > 0 or effect.high < 0)


def test_confounded_interactions_are_named_and_estimated_once() -> None:
    rows, _ = designs.fractional(4, 4)
    fit = Fit((2,) * 4, [*rows, *rows], ["1"] * 8 + ["2"] * 8)
    pairs = {each.factors: each.confounded for each in fit.contrasts if len(each.factors) == 2}
    assert pairs == {(0, 1): ((2, 3),), (0, 2): ((1, 3),), (0, 3): ((1, 2),)}
    thirds, _ = designs.fractional(3, 3)
    assert [each.confounded for each in Fit((2,) * 3, thirds, ["1"] * 4).contrasts] == [
        ((1, 2),),
        ((0, 2),),
        ((0, 1),),
    ]


def test_runs_that_do_not_tell_a_main_effect_are_refused() -> None:
    with pytest.raises(ValueError, match="do not tell"):
        Fit((2, 2), [(0, 0), (1, 1)], ["1", "1"])


def test_without_replicates_an_interval_holds_the_luck_of_problems_alone() -> None:
    values = np.random.default_rng(1).normal(size=(4, 40))
    fit = Fit((2, 2), designs.full((2, 2)), ["1"] * 4)
    effect = fit.effects(values)[0]
    change = (values[2] + values[3] - values[0] - values[1]) / 2
    assert fit.degrees == 0 and effect.high is not None
    assert effect.high - effect.value == pytest.approx(2.022691 * change.std(ddof=1) / 40**0.5, rel=1e-4)
    assert fit.effects(values.mean(axis=1))[0].low is None


@pytest.mark.parametrize("name", ["full", "latin"])
def test_planted_effects_are_covered(name: str) -> None:
    levels, design = ((2, 2), designs.full((2, 2))) if name == "full" else ((3,) * 3, designs.latin((3,) * 3))
    random = np.random.default_rng(2)
    rows = [row for row in design for _ in range(3)]
    fit = Fit(levels, rows, ["1", "2", "3"] * len(design), interactions=name == "full")
    expected = np.array([0.1 * sum(row) for row in rows])
    luck = random.normal(0.0, 0.05, size=(1500, len(rows), 1)) + random.normal(
        0.0, 0.4, size=(1500, len(rows), 60)
    )
    values = expected[:, None] + luck
    held = []
    for contrast in fit.contrasts:
        weights = fit.weights(contrast)
        far = fit.distances(weights, values, fit.luck(values))
        held.append(np.mean(np.abs(values.mean(axis=-1) @ weights - weights @ expected) <= far))
    assert 0.935 <= np.mean(held) <= 0.965
