"""Tests of the default rules: healthy runs break none, and each kind of failure breaks its own rule.

The healthy rows are straight lines through those of the quickstart and of the runs of [gemma-grpo].
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


def broken_rules(columns: dict[str, list[float]]) -> list[str]:
    """Return the rules that the rows of these columns break, in order."""
    monitor = Monitor(settings())
    monitor.use_arguments({"max_grad_norm": 1.0})
    rows: list[dict[str, Any]] = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return [broken.rule for step, row in enumerate(rows, 1) for broken in monitor.observe(step, row)]


def grpo(**changes: list[float]) -> dict[str, list[float]]:
    """Return the rows of a GRPO run that learns, with some columns replaced."""
    healthy = {
        "kl": line(0.0, 0.25),
        "grad_norm": line(0.9, 0.2),
        "entropy": line(0.4, 0.05),
        "reward": line(1.0, 2.5),
        "reward_std": line(0.8, 0.3),
        "groups_with_signal": line(1.0, 0.2),
        "groups_equal_below_best": line(0.1, 0.4),
        "completions/clipped_ratio": line(0.2, 0.0),
        "completions/mean_terminated_length": line(140.0, 75.0),
        "weight_0_score": line(0.3, 0.5),
        "eval/validation/greedy/accuracy": line(0.4, 0.6),
        "sampling/sampling_logp_difference/mean": line(0.001, 0.01),
    }
    return healthy | changes


def test_a_run_that_learns_breaks_no_rule() -> None:
    assert broken_rules(grpo()) == []


def test_sft_from_random_weights_breaks_no_rule() -> None:
    rows = {"loss": line(5.4, 0.05), "grad_norm": line(2.7, 0.4), "entropy": [6.0] * 10 + [0.05] * 90}
    assert broken_rules(rows) == []


def test_a_run_whose_first_gradients_are_zero_breaks_no_rule() -> None:
    assert broken_rules(grpo(grad_norm=[0.0] * 6 + [0.5] * 94)) == []


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        pytest.param({"kl": line(0.0, 0.8)}, "kl_high", id="large KL"),
        pytest.param(
            {"grad_norm": [1.0] * 20 + [500.0] * 80},
            "gradient_explosion gradient_clipped",
            id="exploding gradient",
        ),
        pytest.param(
            {"completions/clipped_ratio": line(0.3, 0.9)}, "completions_clipped", id="truncated completions"
        ),
        pytest.param(
            {"groups_with_signal": [0.9] * 20 + [0.0] * 80}, "no_signal", id="equal rewards in every group"
        ),
        pytest.param({"grad_norm": line(1.0, 16.0)}, "gradient_clipped", id="gradients above the clipping"),
        pytest.param(
            {"groups_equal_below_best": line(0.4, 0.3)}, "weak_signal", id="few signals from the start"
        ),
        pytest.param(
            {"completions/mean_terminated_length": line(100.0, 20.0)},
            "length_collapse",
            id="short completions",
        ),
        pytest.param(
            {"reward": line(2.0, 0.0), "reward_std": line(0.8, 0.0)},
            "reward_std_low",
            id="equally bad completions",
        ),
        pytest.param(
            {"reward": line(2.0, 0.0), "reward_std": line(0.5, 2.0)},
            "reward_std_high",
            id="fluctuating rewards",
        ),
        pytest.param({"weight_0_score": line(0.5, 0.1)}, "reward_hacking", id="reward hacking"),
        pytest.param(
            {"sampling/sampling_logp_difference/mean": line(0.001, 0.04)}, "sampler_gap", id="sampler drifts"
        ),
        pytest.param(
            {"eval/validation/greedy/accuracy": line(0.6, 0.4)}, "no_improvement", id="no better evaluation"
        ),
        pytest.param({"entropy": [0.4] * 20 + [0.001] * 80}, "entropy_collapse", id="entropy collapse"),
        pytest.param(
            {"sampling/sampling_logp_difference/mean": [0.02] * 20 + [0.07] * 80},
            "stale_rollouts",
            id="sampler with old weights",
        ),
    ],
)
def test_each_failure_breaks_its_own_rule(columns: dict[str, list[float]], rule: str) -> None:
    assert broken_rules(grpo(**columns)) == rule.split()


def test_an_exploding_kl_breaks_kl_high_first() -> None:
    assert broken_rules(grpo(kl=line(0.0, 40.0))) == ["kl_high", "kl_explosion"]


def test_off_has_no_rules() -> None:
    assert settings("off").rules == {}


def test_the_rules_that_stop_a_run_are_these_three() -> None:
    stops = {name for name, rule in settings().rules.items() if rule.action == "stop"}
    assert stops == {"kl_explosion", "gradient_explosion", "stale_rollouts"}
