"""What summary.json says about training: segments, each reward's anatomy, health and time."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1exp.paths import StepPaths
from r1exp.report.facts import anatomy, segments, timing, training_facts


def test_segments_are_means_over_thirds_and_the_reward_has_its_best() -> None:
    rows = [{"step": step, "reward": float(step), "kl": 0.1 * step} for step in (1, 2, 3, 4, 5, 6, 9)]
    found = segments(rows)
    assert found["reward"] == {"early": 1.5, "mid": 4.0, "end": 7.5, "best": 9.0}
    assert found["kl"] == pytest.approx({"early": 0.15, "mid": 0.4, "end": 0.75})


def test_two_rows_have_no_segments_and_values_that_are_not_finite_are_left_out() -> None:
    rows: list[dict[str, Any]] = [
        {"step": 1, "reward": 1.0, "kl": 1.0},
        {"step": 2, "reward": 2.0, "kl": None},
        {"step": 3, "kl": 3.0},
    ]
    assert segments(rows) == {}
    assert segments([*rows, {"step": 4, "kl": 8.0}]) == {"kl": {"early": 1.0, "mid": 3.0, "end": 8.0}}


def test_the_anatomy_of_a_reward_has_its_mean_its_share_of_the_variance_and_its_abstentions() -> None:
    rows = [
        {"step": step, "rewards/a/mean": float(step), "rewards/a/variance_share": 0.5, "rewards/a/abstained": 0.25 * step}
        for step in (1, 2)
    ]  # fmt: skip
    assert anatomy(rows, {"a": 2.0}) == {
        "a": {"weight": 2.0, "mean": 1.5, "variance_share": 0.5, "abstained": 0.375}
    }


def test_the_time_of_optimizer_steps_has_its_mean_and_its_longest() -> None:
    rows = [{"step": 1, "step_time": 1.0}, {"step": 2, "step_time": 3.0}]
    assert timing(rows) == {"optimizer_steps": 2, "mean_seconds": 2.0, "max_seconds": 3.0}


def test_a_step_that_logs_nothing_has_no_facts(tmp_path: Path) -> None:
    assert training_facts(StepPaths(tmp_path), {}) == {}


def test_broken_health_rules_are_facts(tmp_path: Path) -> None:
    event = {"step": 3, "rule": "kl_high", "value": 0.5, "action": "warn", "sentence": "kl was 0.5"}
    StepPaths(tmp_path).health_log.write_text(json.dumps(event) + "\n")
    assert training_facts(StepPaths(tmp_path), {}) == {"health": [event]}
