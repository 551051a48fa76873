import json
from pathlib import Path
from typing import Any

import pytest

from r1exp.errors import Refused, StepFailed
from r1exp.evaluation.harness import HarnessRun, refuse_missing, run_harness, version_of
from r1exp.evaluation.harness_results import tasks_of_lm_eval
from r1exp.report.evaluations import comparisons_of
from r1exp.report.measurements import Measurement

RESULTS = {
    "results": {
        "sums": {"alias": "sums", "exact_match,last": 0.5, "exact_match_stderr,last": 0.5, "bleu,none": 3.0},
        "all_sums": {"alias": "all", "acc,none": 0.25, "acc_stderr,none": "N/A"},
    },
    "n-samples": {"sums": {"original": 9, "effective": 2}},
}


def lm_eval_folder(folder: Path, *outcomes: float) -> Path:
    """Write the files of lm_eval into a folder."""
    folder.mkdir()
    rows = [
        {"doc_id": number, "doc_hash": f"h{number}", "filter": "last", "exact_match": value, "bleu": 1.5}
        for number, value in enumerate(outcomes)
    ]
    (folder / "results_2026.json").write_text(json.dumps(RESULTS))
    (folder / "samples_sums_2026.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def test_the_results_of_lm_eval_become_suites(tmp_path: Path) -> None:
    sums, group = (task.to_json() for task in tasks_of_lm_eval(lm_eval_folder(tmp_path / "out", 0.0, 1.0)))
    metrics = sums["metrics"]["harness"]
    assert (metrics["exact_match,last"]["value"], metrics["exact_match,last"]["stderr"]) == (0.5, 0.5)
    assert 0.0 < metrics["exact_match,last"]["low"] < 0.1  # Wilson's, and not 0.5 - 1.96 * 0.5
    assert metrics["bleu,none"] == {"value": 3.0, "n": 2, "low": None, "high": None, "stderr": None}
    assert sums["outcomes"] == {"exact_match,last": [[False], [True]]} and sums["problem_ids"] == ["h0", "h1"]
    assert group["metrics"]["harness"]["acc,none"]["stderr"] is None


def test_a_harness_that_wrote_no_results_fails(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"wrote no results_\*.json"):
        tasks_of_lm_eval(tmp_path)


def measurement(label: str, task: dict[str, Any]) -> Measurement:
    return Measurement(label, "model", {"suites": {"lm_eval:sums": task}})


def test_two_models_are_compared_on_the_problems_of_a_task(tmp_path: Path) -> None:
    before, after = (
        measurement(name, tasks_of_lm_eval(lm_eval_folder(tmp_path / name, *outcomes))[0].to_json())
        for name, outcomes in (("pre", (0.0, 0.0)), ("post", (0.0, 1.0)))
    )
    tests = comparisons_of(before, after)["post - pre, lm_eval:sums"]
    assert list(tests) == ["exact_match,last"]
    assert (tests["exact_match,last"]["method"], tests["exact_match,last"]["difference"]) == ("mcnemar", 0.5)


def test_values_with_standard_errors_are_compared_by_them() -> None:
    def task(value: float) -> dict[str, Any]:
        score = {"value": value, "n": 100, "low": None, "high": None, "stderr": 0.03}
        return {"metrics": {"harness": {"f1": score}}, "problem_ids": [], "outcomes": {}}

    before, after = measurement("pre", task(0.5)), measurement("post", task(0.6))
    test = comparisons_of(before, after)["post - pre, lm_eval:sums"]["f1"]
    assert test["method"] == "standard_errors" and test["low"] == pytest.approx(0.1 - 1.96 * 0.0424, abs=1e-3)
    assert test["p_value"] == pytest.approx(0.0184, abs=1e-3)


def test_a_harness_that_is_not_installed_is_refused_with_the_command(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    assert version_of("lm_eval", str(python)) is None
    with pytest.raises(
        Refused, match=r"there is no .*/bin/python; type: python -m r1exp.evaluation.harness lm_eval"
    ):
        refuse_missing("lm_eval", str(python))


def test_the_last_line_of_a_harness_that_fails_is_in_the_message(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho $@ WORLD=$WORLD_SIZE\nexit 3\n")
    python.chmod(0o755)
    run = HarnessRun(
        harness="lm_eval", tasks=("a", "b"), tasks_path=None, python=python, model=str(tmp_path), base=None, revision=None,
        dtype="float32", trusts_code=False, server=None, device="cpu", num_problems=7, seed=1,
    )  # fmt: skip
    with pytest.raises(StepFailed, match=r"lm_eval failed: .* --tasks a,b .* --limit 7 WORLD=; its log"):
        run_harness(run, tmp_path / "harness")
