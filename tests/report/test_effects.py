"""The effects of a sweep's factors, in its report."""

import csv
import json
import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from r1exp.report.effects import effects_of, effects_table
from r1exp.report.export import csv_of
from r1exp.report.sweep import sweep_report

FACTORS = [
    {"name": "graded.weight", "overrides": ["rewards.graded.weight=0.5", "rewards.graded.weight=1"]},
    {"name": "beta", "overrides": ["beta=0", "beta=0.01"]},
]
DESIGN = {
    "kind": "full", "factors": FACTORS, "combinations": [[0, 0], [0, 1], [1, 0], [1, 1]], "of": 4, "resolution": None,
    "generators": None, "confounded": [],
}  # fmt: skip


def written(
    sweep: Path, seeds: tuple[int, ...] = (1, 2, 3), *, with_answers: bool = True
) -> list[dict[str, Any]]:
    """Write the runs of a sweep: the first factor adds 30 points of accuracy, the second 10 tokens."""
    (sweep / "design.json").write_text(json.dumps(DESIGN))
    runs = []
    for number, (first, second, seed) in enumerate(product((0, 1), (0, 1), seeds)):
        folder = sweep / str(number)
        (folder / "artifact").mkdir(parents=True)
        draw = random.Random(number)
        rows = [
            {
                "suite": "test", "problem_id": str(problem), "mode": mode, "correct": draw.random() < 0.4 + 0.3 * first,
                "num_tokens": 20 + 10 * second + draw.randint(0, 4), "format": True,
            }
            for problem in range(80) for mode in ("sampled", "greedy")
        ]  # fmt: skip
        if with_answers:
            (folder / "artifact" / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
        sampled = [bool(row["correct"]) for row in rows if row["mode"] == "sampled"]
        overrides = [FACTORS[0]["overrides"][first], FACTORS[1]["overrides"][second], f"seed={seed}"]
        summary = {
            "name": "mine", "overrides": overrides, "state": "done", "objective": sum(sampled) / len(sampled),
            "objective_of": "post sampled", "comparisons": {}, "scores": {"post": "artifact/scores.json"},
        }  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))
        runs.append(summary | {"folder": str(folder)})
    return runs


def test_effects_are_estimated_on_accuracy_length_and_format(tmp_path: Path) -> None:
    found = effects_of(written(tmp_path))
    rows = {row["effect"]: row for row in found["rows"]}
    graded, beta = rows["graded.weight: 1 against 0.5"], rows["beta: 0.01 against 0"]
    assert (
        graded["accuracy"]["low"] < 0.3 < graded["accuracy"]["high"] and graded["accuracy"]["p_holm"] < 0.001
    )
    assert beta["accuracy"]["low"] < 0.0 < beta["accuracy"]["high"]
    assert beta["tokens"]["low"] < 10.0 < beta["tokens"]["high"] and beta["tokens"]["p_holm"] < 0.001
    assert graded["format"] == {"value": 0.0}  # nothing varies
    assert "graded.weight=1 x beta=0.01" in rows
    assert found["num_runs"] == 12 and "problems, sampling and training seeds" in found["note"]


def test_a_run_that_failed_leaves_what_the_others_tell(tmp_path: Path) -> None:
    runs = written(tmp_path)
    runs[0] |= {"state": "failed", "objective": None}
    assert effects_of(runs)["num_runs"] == 11
    assert effects_of([run for run in runs if "beta=0" in run["overrides"]]) == {}


def test_without_answers_there_are_no_effects_and_without_a_design_none(tmp_path: Path) -> None:
    runs = written(tmp_path, with_answers=False)
    assert all("accuracy" not in row for row in effects_of(runs)["rows"])
    (tmp_path / "design.json").unlink()
    assert effects_of(runs) == {}


def test_without_seeds_the_note_says_which_luck_is_missing(tmp_path: Path) -> None:
    note = effects_of(written(tmp_path, seeds=(1,)))["note"]
    assert "hold the luck of problems and sampling;" in note and "type seed=1,2" in note


def test_the_report_has_the_table_and_its_csv_the_numbers(tmp_path: Path) -> None:
    runs = written(tmp_path)
    text = sweep_report(tmp_path)
    assert "## Effects of the factors" in text
    line = next(line for line in text.splitlines() if line.startswith("| graded.weight: 1 against 0.5"))
    table = list(csv.DictReader(csv_of(effects_table({"effects": effects_of(runs)})).splitlines()))
    assert len(table) == 3 and line.count("|") > 4


@pytest.mark.slow
def test_a_sweep_with_a_design_ends_with_its_effects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from r1exp.runner.sweep import run_members

    monkeypatch.chdir(tmp_path)
    words = (
        "stage=rl debug=fast tracking=none health=off evaluation.before=false evaluation.greedy=false max_steps=1 "
        "sweep.design=fractional rewards.graded.weight=0.5,1 rewards.xml_count.weight=0,1 beta=0,0.01 "
        f"hydra.sweep.dir={tmp_path}/sweep launcher.threads_per_process=1"
    )
    assert run_members(words.split(), is_multirun=True, config_dirs=[]) == 0
    design = json.loads((tmp_path / "sweep" / "design.json").read_text())
    assert len(design["combinations"]) == 4 and design["resolution"] == 3
    assert json.loads((tmp_path / "sweep" / "power.json").read_text())["compares"] == "models"
    assert (
        "graded.weight: 1 against 0.5 (or xml_count.weight x beta)"
        in (tmp_path / "sweep" / "report.md").read_text()
    )
    assert "Effects of the factors" in (tmp_path / "sweep" / "report.html").read_text()
    assert (tmp_path / "sweep" / "tables" / "effects.csv").is_file()
