from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from pydantic import ValidationError

from r1exp.health.monitor import Monitor
from r1exp.health.settings import HealthSettings, Rule

CONF = Path(__file__).parents[2] / "conf" / "health"


def watch(rule: dict[str, Any], values: list[float | None]) -> list[tuple[int, float]]:
    settings = HealthSettings(rules={"r": Rule(metric="m", action="warn", advice="do it", **rule)})
    monitor = Monitor(settings)
    return [
        (v.step, v.value) for step, value in enumerate(values, 1) for v in monitor.observe(step, {"m": value})
    ]


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        pytest.param({"above": 1.0, "window": 1}, [0.5, 1.0, 1.5], [(3, 1.5)], id="above"),
        pytest.param({"below": 1.0, "window": 1}, [1.0, 0.5], [(2, 0.5)], id="below"),
        pytest.param({"above": 1.0, "window": 2}, [0.0, 1.5, 1.5], [(3, 1.5)], id="mean of the window"),
        pytest.param(
            {"above": 3.0, "relative": True, "window": 1}, [2.0, 5.0, 7.0], [(3, 7.0)], id="relative"
        ),
        pytest.param(
            {"above": 1.0, "window": 1}, [2.0, 2.0, 0.0, 2.0], [(1, 2.0), (4, 2.0)], id="reported once"
        ),
        pytest.param({"above": 1.0, "window": 2}, [2.0, None, 2.0], [(3, 2.0)], id="null is skipped"),
        pytest.param(
            {"above": 1.0, "window": 2},
            [0.5, float("nan"), float("inf"), 2.5],
            [(4, 1.5)],
            id="NaN and infinity are skipped",
        ),
        pytest.param(
            {"above": 3.0, "relative": True, "start_at_least": 1.0, "window": 1},
            [0.0, 2.0, 4.0],
            [(3, 4.0)],
            id="start_at_least",
        ),
    ],
)
def test_a_rule_is_broken_when_the_mean_of_its_window_exceeds_the_bound(
    rule: dict[str, Any], values: list[float | None], expected: list[tuple[int, float]]
) -> None:
    assert watch(rule, values) == expected


def watch_rows(rule: dict[str, Any], rows: list[dict[str, float]], **arguments: float) -> list[int]:
    """Return the steps at which a rule on `m` is reported."""
    monitor = Monitor(HealthSettings(rules={"r": Rule(metric="m", action="warn", advice="do it", **rule)}))
    monitor.use_arguments(arguments)
    return [v.step for step, row in enumerate(rows, 1) for v in monitor.observe(step, row)]


def columns(m: list[float], other: list[float]) -> list[dict[str, float]]:
    return [{"m": a, "other": b} for a, b in zip(m, other, strict=True)]


@pytest.mark.parametrize(
    ("other", "reported"),
    [([1.0, 2.0, 3.0], [2]), ([3.0, 2.0, 1.0], []), ([1.0, 1.0, 1.0], [])],
    ids=["rises", "falls", "stays"],
)
def test_a_rule_with_rising_is_broken_only_while_the_other_metric_is_above_its_start(
    other: list[float], reported: list[int]
) -> None:
    rule = {"below": 0.8, "relative": True, "window": 1}
    rows = columns([1.0, 0.5, 0.5], other)
    assert watch_rows({**rule, "rising": "other"}, rows) == reported
    falls = [row | {"other": -row["other"]} for row in rows]
    assert watch_rows({**rule, "falling": "other"}, falls) == reported


def test_a_bound_can_be_a_multiple_of_an_argument_of_the_trainer() -> None:
    rule = {"above": 5.0, "argument": "max_grad_norm", "window": 1}
    rows = columns([4.0, 6.0, 11.0], [0.0] * 3)
    assert watch_rows(rule, rows, max_grad_norm=2.0) == [3]
    assert watch_rows(rule, rows, max_grad_norm=0.0) == watch_rows(rule, rows) == []


def test_a_rule_of_the_first_rows_is_checked_once() -> None:
    rule = {"below": 0.5, "window": 2, "first_rows": True}
    assert watch_rows(rule, columns([0.4, 0.4, 1.0, 1.0], [0.0] * 4)) == [2]
    assert watch_rows(rule, columns([1.0, 1.0, 0.0, 0.0], [0.0] * 4)) == []


def test_patience_counts_values_without_a_new_highest_one() -> None:
    rule = {"patience": 2, "window": 1}
    assert watch_rows(rule, columns([0.5, 0.6, 0.6, 0.55, 0.5, 0.7, 0.7, 0.7], [0.0] * 8)) == [4, 8]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"patience": 3}, id="two bounds"),
        pytest.param({"relative": True, "argument": "max_grad_norm"}, id="a multiple of two things"),
        pytest.param({"action": "adapt"}, id="adapt on another metric than kl"),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    given = {"metric": "m", "above": 1.0, "window": 1, "action": "warn", "advice": "do it"}
    with pytest.raises(ValidationError):
        Rule.model_validate(given | changes)


def test_a_resumed_monitor_reports_what_an_uninterrupted_one_does() -> None:
    settings = HealthSettings(
        rules={"r": Rule(metric="m", above=2.0, relative=True, window=2, action="stop", advice="do it")}
    )
    first, second = Monitor(settings), Monitor(settings)
    rows = [1.0, 1.0, 1.5, 3.0, 3.0]
    whole = [first.observe(step, {"m": value}) for step, value in enumerate(rows)]
    interrupted = Monitor(settings)
    for step, value in enumerate(rows[:3]):
        interrupted.observe(step, {"m": value})
    second.load(interrupted.state())
    assert [second.observe(step, {"m": value}) for step, value in enumerate(rows[3:], 3)] == whole[3:]
    assert any(whole[3:])


def test_a_rule_with_beside_uses_only_rows_with_both_metrics() -> None:
    rule = Rule(metric="m", above=1.0, window=1, beside="reward", action="warn", advice="do it")
    monitor = Monitor(HealthSettings(rules={"r": rule}))
    assert monitor.observe(1, {"m": 2.0}) == []
    assert monitor.observe(2, {"m": 2.0, "reward": None}) == []
    assert len(monitor.observe(3, {"m": 2.0, "reward": 0.0})) == 1


def test_start_at_least_in_an_absolute_rule_is_refused() -> None:
    with pytest.raises(ValidationError, match="relative=true"):
        Rule(metric="m", above=1.0, window=1, start_at_least=1.0, action="warn", advice="do it")


@pytest.mark.parametrize("bounds", [{}, {"above": 1.0, "below": 0.0}], ids=["none", "two"])
def test_a_rule_has_exactly_one_bound(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="one bound"):
        Rule(metric="m", window=1, action="warn", advice="do it", **bounds)


def test_every_default_rule_is_documented() -> None:
    rules = OmegaConf.load(CONF / "default.yaml").rules
    text = (CONF.parents[1] / "docs" / "health.md").read_text()
    assert [name for name in rules if f"`{name}`" not in text] == []
