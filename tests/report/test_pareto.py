"""The Pareto front of a sweep with several objectives."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1exp.paths import SweepPaths
from r1exp.report.pareto import pareto_figure, pareto_of, pareto_tables
from r1exp.report.sweep import sweep_report


def run(accuracy: float, tokens: float | None, overrides: str = "", **changes: Any) -> dict[str, Any]:
    metrics = {"format": {"value": 0.9}} | ({} if tokens is None else {"output_tokens_mean": tokens})
    score = {"value": accuracy, "n": 100, "low": accuracy - 0.1, "high": accuracy + 0.1}
    return {
        "name": "mine", "state": "done", "overrides": ["max_steps=5", *overrides.split()], "objective": accuracy,
        "objective_of": "post sampled", "post_accuracy": {"sampled": score}, "comparisons": {},
        "evaluations": {"post": {"test": {"sampled": metrics}}},
    } | changes  # fmt: skip


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    SweepPaths(tmp_path).objectives.write_text('{"objectives": ["accuracy", "tokens"]}')
    return tmp_path


def test_a_setting_is_on_the_front_unless_another_one_beats_it(sweep: Path) -> None:
    settings = [
        (["a"], [run(0.9, 300)]), (["b"], [run(0.8, 100)]), (["c"], [run(0.8, 200)]), (["d"], [run(0.7, 90), run(0.5, 90)]),
        (["e"], [run(0.5, 100)]), (["not measured"], [run(0.99, None)]), (["failed"], [run(0.99, 1, state="failed")]),
    ]  # fmt: skip
    found = pareto_of(sweep, settings)
    assert [(point["overrides"], point["on_front"]) for point in found["points"]] == [
        (["a"], True), (["b"], True), (["d"], True), (["c"], False), (["e"], False)
    ]  # fmt: skip
    assert found["points"][2]["values"]["accuracy"]["value"] == pytest.approx(0.6)
    assert found["points"][2]["values"]["accuracy"]["low"] < 0.6  # over two runs
    assert "low" not in found["points"][0]["values"]["accuracy"]


def test_equal_settings_are_both_on_the_front(sweep: Path) -> None:
    found = pareto_of(sweep, [(["a"], [run(0.9, 300)]), (["b"], [run(0.9, 300)])])
    assert [point["on_front"] for point in found["points"]] == [True, True]
    assert "<svg" in pareto_figure({"pareto": found})  # also where all points are in one place


def test_the_figure_escapes_overrides(sweep: Path) -> None:
    found = pareto_of(sweep, [(["name=</svg><script>"], [run(0.9, 300)]), (["b"], [run(0.8, 200)])])
    figure = pareto_figure({"pareto": found})
    assert "<script>" not in figure
    assert figure.count("<circle") == 2
    (table,) = pareto_tables({"pareto": found})
    assert table.columns == (
        "setting",
        "runs",
        "accuracy, % (maximize)",
        "tokens, per answer (minimize)",
        "front",
    )


def test_the_report_of_a_plain_sweep_shows_the_front(sweep: Path) -> None:
    for number, summary in enumerate(
        [run(0.9, 300, "beta=0"), run(0.8, 200, "beta=1"), run(0.7, 250, "beta=2")]
    ):
        (sweep / str(number)).mkdir()
        (sweep / str(number) / "summary.json").write_text(json.dumps(summary))
    text = sweep_report(sweep)
    assert "| beta=1 | 1 | 80.0 | 200 | on the front |" in text
    assert "| beta=2 | 1 | 70.0 | 250 | beaten |" in text
    SweepPaths(sweep).objectives.unlink()
    assert "Pareto" not in sweep_report(sweep)
