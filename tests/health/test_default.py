"""The rules we ship: runs that learn trip none, and each kind of trouble trips its own.

The healthy rows are those of the quickstart and of seed 002's runs, drawn as straight lines.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from r1exp.health.monitor import Monitor
from r1exp.health.settings import HealthSettings

CONF = Path(__file__).parents[2] / "conf" / "health"
NUM_ROWS = 100


def settings(name: str = "default") -> HealthSettings:
    written = json.dumps(OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml")))
    return HealthSettings.model_validate_json(written)


def line(start: float, end: float) -> list[float]:
    return [start + (end - start) * row / (NUM_ROWS - 1) for row in range(NUM_ROWS)]


def tripped(columns: dict[str, list[float]]) -> list[str]:
    """Return the rules that rows made of these columns break, in order."""
    monitor = Monitor(settings())
    rows: list[dict[str, Any]] = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return [broken.rule for step, row in enumerate(rows, 1) for broken in monitor.observe(step, row)]


def grpo(**changes: list[float]) -> dict[str, list[float]]:
    """The rows of a GRPO run that learns, with some columns replaced."""
    healthy = {
        "kl": line(0.0, 0.25),
        "grad_norm": line(0.9, 0.2),
        "entropy": line(0.4, 0.05),
        "reward": line(1.0, 2.5),
        "reward_std": line(0.8, 0.3),
        "groups_with_signal": line(1.0, 0.2),
        "completions/clipped_ratio": line(0.2, 0.0),
        "sampling/sampling_logp_difference/mean": line(0.001, 0.01),
    }
    return healthy | changes


def test_a_run_that_learns_trips_nothing() -> None:
    assert tripped(grpo()) == []


def test_sft_from_random_weights_trips_nothing() -> None:
    rows = {"loss": line(5.4, 0.05), "grad_norm": line(2.7, 0.4), "entropy": [6.0] * 10 + [0.05] * 90}
    assert tripped(rows) == []


def test_a_run_whose_first_batches_teach_nothing_trips_nothing() -> None:
    assert tripped(grpo(grad_norm=[0.0] * 6 + [0.5] * 94)) == []


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        pytest.param({"kl": line(0.0, 0.8)}, "kl_high", id="the policy drifts away"),
        pytest.param(
            {"grad_norm": [1.0] * 20 + [500.0] * 80}, "gradient_explosion", id="the gradient explodes"
        ),
        pytest.param({"completions/clipped_ratio": line(0.3, 0.9)}, "completions_clipped", id="no room"),
        pytest.param({"groups_with_signal": [0.0] * NUM_ROWS}, "no_signal", id="nothing to learn from"),
        pytest.param({"entropy": [0.4] * 20 + [0.001] * 80}, "entropy_collapse", id="one answer to all"),
        pytest.param(
            {"sampling/sampling_logp_difference/mean": line(0.001, 0.07)},
            "stale_rollouts",
            id="the sampler has old weights",
        ),
    ],
)
def test_each_trouble_trips_its_own_rule(columns: dict[str, list[float]], rule: str) -> None:
    assert tripped(grpo(**columns)) == [rule]


def test_a_kl_that_explodes_is_called_high_first() -> None:
    assert tripped(grpo(kl=line(0.0, 40.0))) == ["kl_high", "kl_explosion"]


def test_off_has_no_rules() -> None:
    assert settings("off").rules == {}


def test_what_stops_a_run_is_what_spoils_it() -> None:
    stops = {name for name, rule in settings().rules.items() if rule.action == "stop"}
    assert stops == {"kl_explosion", "gradient_explosion", "stale_rollouts"}
