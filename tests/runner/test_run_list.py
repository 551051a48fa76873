"""The list of runs: one row for a run or a sweep, filtered and sorted."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.files import write_json
from r1exp.paths import RunPaths, SweepPaths
from r1exp.plan.steps import planned_steps
from r1exp.runner.run_directory import start_run
from r1exp.runner.run_list import run_list, runs_below
from r1exp.step.status import Status

Started = Callable[..., Path]


@pytest.fixture
def started(compose_line: Callable[..., Experiment], tmp_path: Path) -> Started:
    """Make the folder of a run that was started; with an objective, of one that is done."""

    def start(name: str, *overrides: str, objective: float | None = None) -> Path:
        experiment = compose_line("stage=sft", "tracking=none", f"paths.store={tmp_path}/store", *overrides)
        steps = planned_steps(experiment)
        folder = tmp_path / "runs" / name
        start_run(experiment, steps, folder)
        if objective is not None:
            for step in steps:
                Status(state="done").write(step.paths(folder).folder)
            summary = {"state": "done", "objective": objective, "elapsed_seconds": 90.0}
            write_json(RunPaths(folder).summary, summary)
        return folder

    return start


def rows(tmp_path: Path, sort: str = "age", **wanted: str) -> list[str]:
    """Return the folders that are listed, in order."""
    table = run_list(tmp_path / "runs", wanted, sort).splitlines()
    return [line.split()[0] for line in table[1:-1]]


def test_runs_are_listed_with_what_differs_and_selected_and_sorted(tmp_path: Path, started: Started) -> None:
    started("a", "seed=1", "max_steps=5", objective=0.25)
    started("b", "seed=2", "max_steps=5", "name=other", objective=0.5)
    started("c", "seed=3", "max_steps=5")
    table = run_list(tmp_path / "runs", {})
    assert "25.0 %" in table and "seed=1" in table and "max_steps" not in table
    assert rows(tmp_path, "objective") == ["b", "a", "c"]
    assert rows(tmp_path, "name") == ["b", "a", "c"]
    assert rows(tmp_path, state="done", sort="objective") == ["b", "a"]
    assert rows(tmp_path, state="vanished,failed") == ["c"]
    assert rows(tmp_path, name="oth*") == ["b"]
    assert rows(tmp_path, seed="3") == ["c"]
    assert rows(tmp_path, seed="7") == []


def test_a_sweep_is_one_row_with_its_values_and_its_own_runs_are_listed_by_its_folder(
    tmp_path: Path, started: Started
) -> None:
    for number, seed in enumerate(("1", "2", "3")):
        started(f"sweep/{number}", f"seed={seed}", objective=0.1 * number if number else None)
    write_json(SweepPaths(tmp_path / "runs" / "sweep").table, [])
    (found,) = runs_below(tmp_path / "runs")
    assert found.state == "1 vanished, 2 done"
    assert found.objective == pytest.approx(0.2)
    assert "seed=1,2,3" in found.overrides
    assert [run.folder.name for run in runs_below(tmp_path / "runs" / "sweep")] == ["0", "1", "2"]
    assert rows(tmp_path, seed="2") == ["sweep"]


def test_a_run_whose_files_are_damaged_is_listed(tmp_path: Path, started: Started) -> None:
    folder = started("a", objective=0.1)
    RunPaths(folder).summary.write_text("{")
    RunPaths(folder).plan.write_text("{")
    RunPaths(folder).manifest.write_text("")
    (found,) = runs_below(tmp_path / "runs")
    assert (found.state, found.name, found.objective) == ("unknown", "a", None)


def test_long_lines_are_cut_and_few_rows_are_counted(tmp_path: Path, started: Started) -> None:
    started("a", "name=" + "x" * 200)
    started("b")
    lines = run_list(tmp_path / "runs", {}, limit=1, width=60).splitlines()
    assert max(map(len, lines[:-1])) <= 60
    assert lines[-1].endswith("2 runs and sweeps below " + str(tmp_path / "runs") + ", 1 of them shown")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such folder"),
        (["."], "no runs below"),
        ([".", "sort=colour"], "sorted by age, name, objective"),
        (["limit=many"], "must be a number"),
        (["--all"], "has no options"),
        (["a", "b"], "takes one folder"),
    ],
)
def test_what_cannot_be_listed_is_said(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(["runs", *arguments])
    captured = capsys.readouterr()
    assert message in captured.out + captured.err
    assert code == (0 if "no runs" in message else 2)


def test_a_folder_that_does_not_hold_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"paths\.runs"):
        run_list(tmp_path / "nothing", {})
    (tmp_path / "manifest.json").write_text(json.dumps({"overrides": 3, "step_keys": 4}))  # of something else
    assert run_list(tmp_path, {}).count("\n") == 3
    assert main(["reproduce", str(tmp_path)]) == 2
