"""The ranked table of a sweep."""

import json
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest

from r1exp.errors import Refused
from r1exp.evaluation.outcomes import accuracy
from r1exp.report.sweep import sweep_report
from r1exp.statistics.crossed import crossed_difference


def run(overrides: str, sampled: float, p_value: float = 0.01, **changes: Any) -> dict[str, Any]:
    test = {"difference": sampled - 0.5, "low": sampled - 0.6, "high": sampled - 0.4, "p_value": p_value}
    score = {"value": sampled, "n": 100, "low": sampled - 0.1, "high": sampled + 0.1}
    return {
        "name": "mine", "overrides": ["max_steps=5", *overrides.split()], "state": "done",
        "objective": sampled, "objective_of": "post sampled",
        "pre_accuracy": {"sampled": score | {"value": 0.5}}, "post_accuracy": {"sampled": score},
        "comparisons": {"post - pre": {"sampled": test}},
    } | changes  # fmt: skip


def written(folder: Path, runs: list[dict[str, Any]]) -> Path:
    for number, summary in enumerate(runs):
        (folder / str(number)).mkdir()
        (folder / str(number) / "summary.json").write_text(json.dumps(summary))
    return folder


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]


def test_settings_are_ranked_with_intervals_over_seeds(tmp_path: Path) -> None:
    runs = [
        run("beta=0 seed=1", 0.60, 0.04), run("beta=0 seed=2", 0.62), run("beta=0 seed=3", 0.64),
        run("beta=1 seed=1", 0.70), run("beta=1 seed=2", 0.71), run("beta=1 seed=3", 0.75),
    ]  # fmt: skip
    text = sweep_report(written(tmp_path, runs))
    _, _, first, second = cells(text)
    # Means 72 and 62; t(2 degrees of freedom) = 4.303, times the standard error of three seeds. The outcomes are not kept.
    assert first[:3] == ["beta=1", "3", "72.0 [65.4, 78.6]"]
    # Gains of 22 and 12 points: t = 14.3 and 10.4, p = 0.005 and 0.009, of which Holm doubles the smaller one.
    assert first[4:5] + second[4:5] == ["0.01", "0.01"]
    assert second[:4] == ["beta=0", "3", "62.0 [57.0, 67.0]", "+12.0 [+7.0, +17.0]"]
    assert second[-2:] == ["-10.0 [-12.5, -7.5]", "0.003"]  # differences of the same seeds: -10, -9, -11
    assert "hold the luck of training seeds and sampling, but not of problems" in text
    assert "Every run: `max_steps=5`" in text
    assert (tmp_path / "report.md").read_text() == text


def with_outcomes(folder: Path, number: int, chances: list[float], overrides: str) -> dict[str, Any]:
    """Write the scores of a run with two answers to each problem, and return its summary."""
    random = Random(f"{number}")
    before, after = (
        [[random.random() < min(chance + shift, 1.0) for _ in range(2)] for chance in chances]
        for shift in (0.0, 0.3 if "beta=1" in overrides else 0.1)
    )
    summary = run(overrides, accuracy(after).value, 0.02, scores={"pre": "pre.json", "post": "post.json"})
    for label, outcomes in (("pre", before), ("post", after)):
        summary[f"{label}_accuracy"] = {"sampled": asdict(accuracy(outcomes))}
        content = {"problem_ids": list(map(str, range(len(chances)))), "outcomes": {"sampled": outcomes}}
        (folder / str(number)).mkdir(exist_ok=True)
        (folder / str(number) / f"{label}.json").write_text(json.dumps(content))
    return summary


def test_with_kept_outcomes_intervals_hold_problems_sampling_and_seeds(tmp_path: Path) -> None:
    chances = [Random(number).random() for number in range(60)]
    words = ["beta=0 seed=1", "beta=0 seed=2", "beta=1 seed=1", "beta=1 seed=2"]
    runs = [with_outcomes(tmp_path, number, chances, text) for number, text in enumerate(words)]
    for number, summary in enumerate(runs):
        (tmp_path / str(number) / "summary.json").write_text(json.dumps(summary))
    text = sweep_report(tmp_path)
    first, second = cells(text)[2:]
    assert [first[0], second[0]] == ["beta=1", "beta=0"]
    outcomes = [
        json.loads((tmp_path / f"{number}" / "post.json").read_text())["outcomes"]["sampled"]
        for number in range(4)
    ]
    expected = crossed_difference(outcomes[2:], outcomes[:2])
    figures = (expected.difference, expected.low, expected.high)
    assert second[-2] == "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in figures))
    assert second[-1] == f"{expected.p_value:.1g}"
    assert (
        "of the differences from the first row hold the luck of problems, sampling and training seeds."
        in text
    )


def test_with_one_run_of_each_setting_the_interval_says_that_it_holds_no_training_seed(
    tmp_path: Path,
) -> None:
    chances = [Random(number).random() for number in range(60)]
    runs = [with_outcomes(tmp_path, number, chances, f"beta={number}") for number in range(2)]
    for number, summary in enumerate(runs):
        (tmp_path / str(number) / "summary.json").write_text(json.dumps(summary))
    text = sweep_report(tmp_path)
    low, high = cells(text)[3][-2].partition("[")[2].rstrip("]").split(", ")
    assert float(low) < float(high)
    assert (
        "the differences from the first row hold the luck of problems and sampling, but not of training seeds (one run)"
        in text
    )


def test_a_single_run_has_its_interval_over_problems(tmp_path: Path) -> None:
    text = sweep_report(written(tmp_path, [run("beta=0", 0.6), run("beta=1", 0.5)]))
    assert cells(text)[2][2] == "60.0 [50.0, 70.0]"


def test_runs_that_did_not_finish_are_left_out_and_counted(tmp_path: Path) -> None:
    runs = [run("beta=0", 0.6), run("beta=1", 0.9, state="failed")]
    text = sweep_report(written(tmp_path, runs))
    assert "1 run is left out" in text
    assert len(cells(text)) == 3


def test_a_folder_without_finished_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="sweep status"):
        sweep_report(tmp_path)


def test_settings_are_ranked_on_the_seeds_that_all_of_them_have(tmp_path: Path) -> None:
    # beta=0 has the higher mean over its own runs, and is 5 points behind on the only seed that both have.
    runs = [run("beta=0 seed=1", 0.60), run("beta=0 seed=2", 0.90), run("beta=1 seed=1", 0.65)]
    text = sweep_report(written(tmp_path, runs))
    _, _, first, second = cells(text)
    assert [first[0], second[0]] == ["beta=1", "beta=0"]
    assert [first[-2], second[-2]] == ["", "-5.0"]
    assert "compared on what every setting has: seed=1." in text


def test_the_seed_of_one_step_is_a_seed_and_not_a_setting(tmp_path: Path) -> None:
    key = "pipeline.steps.rl.set.seed"
    runs = [run(f"beta={beta} {key}={seed}", 0.6) for beta in (0, 1) for seed in (1, 2)]
    rows = cells(sweep_report(written(tmp_path, runs)))[2:]
    assert [row[:2] for row in rows] == [["beta=0", "2"], ["beta=1", "2"]]


def test_a_finished_run_without_an_objective_is_ranked_last(tmp_path: Path) -> None:
    unmeasured = run("beta=0", 0.9, objective=None, objective_missing="no step measured it")
    rows = cells(sweep_report(written(tmp_path, [unmeasured, run("beta=1", 0.1)])))[2:]
    assert [row[0] for row in rows] == ["beta=1", "beta=0"]
    assert rows[1][2:] == [""] * 8


def test_a_single_finished_run_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(run("beta=0", 0.6)))
    (tmp_path / "report.md").write_text("of the run")
    text = sweep_report(tmp_path)
    assert text.startswith("# mine: 1 run\n")
    assert "60.0 [50.0, 70.0]" in text
    assert (tmp_path / "report.md").read_text() == "of the run"


def test_the_best_run_is_named_and_the_others_have_their_reasons(tmp_path: Path) -> None:
    failed = {"sft": {"state": "failed", "reason": "out of memory"}}
    runs = [run("beta=0", 0.6), run("beta=1", 0.9), run("beta=2", 0.1, state="failed", steps=failed)]
    folder = written(tmp_path, runs)
    rows = [{"member": "3", "overrides": ["beta=x"], "reason": "beta=x is no number"}]
    (folder / "sweep.json").write_text(json.dumps(rows))
    text = sweep_report(folder)
    assert "Best run: 1 (beta=1), objective 0.9." in text
    assert "2 runs are left out because they have not finished" in text
    assert "* 2, failed: step sft failed: out of memory" in text
    assert "* 3, refused: beta=x is no number" in text


def test_a_damaged_summary_or_table_does_not_hide_the_other_runs(tmp_path: Path) -> None:
    written(tmp_path, [run("beta=0", 0.6), run("beta=1", 0.9)])
    (tmp_path / "1" / "summary.json").write_text("")
    (tmp_path / "1" / "plan.json").write_text("{}")
    (tmp_path / "sweep.json").write_text('[{"member": ')
    text = sweep_report(tmp_path)
    assert cells(text)[2][0] == "defaults"
    assert "1 run is left out" in text
    assert "* 1, unknown: " in text
