"""What a report says of forks."""

import json
from pathlib import Path
from typing import Any

from r1exp.report.forks import fork_lines, fork_note
from r1exp.report.sweep import sweep_report
from r1exp.step.fork import ForkOrigin


def run(overrides: str, sampled: float, at: int | None = 60) -> dict[str, Any]:
    score = {"value": sampled, "n": 100, "low": sampled - 0.1, "high": sampled + 0.1}
    fork = {} if at is None else {"fork": {"run": "runs/trunk", "at": at, "text": "beta 0.1 (was 0)"}}
    return {
        "name": "mine", "overrides": overrides.split(), "state": "done", "objective": sampled,
        "objective_of": "post sampled", "post_accuracy": {"sampled": score}, "comparisons": {},
        "steps": {"rl": {"state": "done", **fork}},
    }  # fmt: skip


def test_a_fork_says_from_where_its_curve_is_its_own() -> None:
    (line,) = fork_lines(run("", 0.5))
    assert line.startswith(
        "rl: a fork of runs/trunk@60 (beta 0.1 (was 0)). Until optimizer step 60 its curves are those of that run."
    )
    assert fork_lines(run("", 0.5, at=None)) == []


def test_a_sweep_of_forks_says_that_they_answer_another_question_and_are_paired() -> None:
    note = fork_note([run("", 0.5), run("", 0.6)])
    assert "is paired" in note
    assert "another question" in note
    assert fork_note([run("", 0.5, at=None)]) == ""


def test_forks_among_whole_runs_are_counted() -> None:
    assert fork_note([run("", 0.5), run("", 0.6, at=None)]).startswith("1 of the 2 runs are forks")


def test_forks_of_several_runs_are_compared_with_those_of_the_same_run(tmp_path: Path) -> None:
    rows = [
        run("fork.run=a seed=1 beta=0", 0.5), run("fork.run=b seed=2 beta=0", 0.7),
        run("fork.run=a seed=1 beta=1", 0.6), run("fork.run=b seed=2 beta=1", 0.8),
    ]  # fmt: skip
    for number, summary in enumerate(rows):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "summary.json").write_text(json.dumps(summary))
    text = sweep_report(tmp_path)
    assert "| beta=0 | 2 |" in text
    assert "-10.0" in text  # of both runs, so that nothing is left of the luck of their pasts
    assert "Forks of runs/trunk@60" in text


def test_members_of_a_committee_are_named_once() -> None:
    changes: dict[str, tuple[Any, Any]] = {
        "rewards.graded.kind": ("graded", None), "rewards.graded.weight": (1.0, None), "beta": (0.0, 0.1),
        "rewards.strict.kind": (None, "strict"), "rewards.strict.weight": (None, 1.0),
    }  # fmt: skip
    origin = ForkOrigin(run="run", step="rl", at=3, key="key", checkpoint="hash", changes=changes)
    assert origin.text() == "rewards.graded left out, rewards.strict added, beta 0.1 (was 0.0)"
    assert origin.starts_kl_anew
    assert not origin.starts_random_numbers_anew
