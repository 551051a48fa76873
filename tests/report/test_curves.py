"""The curves of a report, and the bands of runs that differ in the seed only."""

import json
from pathlib import Path

import pytest

from r1exp.paths import StepPaths
from r1exp.report.curves import joined, panels_of, points_of


def test_runs_of_a_setting_become_their_mean_with_a_band() -> None:
    curve = joined([{1: (1.0, 1.0, 1.0), 2: (4.0, 4.0, 4.0)}, {1: (3.0, 3.0, 3.0)}], 100)
    assert curve.to_json() == {"x": [1, 2], "y": [2.0, 4.0], "low": [1.0, 4.0], "high": [3.0, 4.0]}


def test_a_run_alone_has_no_band() -> None:
    assert joined([{1: (1.0, 1.0, 1.0)}], 100).to_json() == {"x": [1], "y": [1.0]}


def test_a_thinned_curve_keeps_its_extremes_in_the_band() -> None:
    points = {step: (value, value, value) for step, value in enumerate([1.0, 1.0, 9.0, 1.0], start=1)}
    assert joined([points], 2).to_json() == {
        "x": [2, 4],
        "y": [1.0, 5.0],
        "low": [1.0, 1.0],
        "high": [1.0, 9.0],
    }


def test_an_evaluation_during_training_has_its_own_interval(tmp_path: Path) -> None:
    row = {
        "step": 5,
        "eval/gsm8k/greedy/accuracy": 0.5,
        "eval/gsm8k/greedy/low": 0.4,
        "eval/gsm8k/greedy/high": 0.6,
    }
    last = {"step": 5, "train_runtime": 1.0, "loss": 3.0}
    StepPaths(tmp_path).metrics.write_text(json.dumps(row) + "\n" + json.dumps(last) + "\n")
    assert points_of(StepPaths(tmp_path)) == {"eval/gsm8k/greedy/accuracy": {5: (0.5, 0.4, 0.6)}}


def test_panels_are_by_metric_then_by_step_of_the_pipeline() -> None:
    point = {1: (1.0, 1.0, 1.0)}
    run = {
        "sft": {"loss": point},
        "rl": {"loss": point, "reward": point, "rewards/graded/mean": point, "other": point},
    }
    panels = panels_of([[run]], 100)
    assert [(panel["metric"], panel["step"]) for panel in panels] == [
        ("reward", "rl"), ("rewards/graded/mean", "rl"), ("loss", "sft"), ("loss", "rl")
    ]  # fmt: skip
    assert panels[0]["curves"] == [{"setting": 0, "x": [1], "y": [pytest.approx(1.0)]}]
