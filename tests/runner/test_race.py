"""Races of settings: decisions from known results, resumption, and requests that cannot work."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.errors import ExitCode
from r1exp.runner import members as members_module
from r1exp.runner import race as race_module
from r1exp.runner.run import Run

SHORT = ["stage=sft", "tracking=none", "evaluation.before=false"]
LINE = ["-m", "hydra.sweep.dir=sweep", *SHORT, "sweep.race=true", "learning_rate=1.0,2.0,3.0"]
TWO = [*LINE[:-1], "learning_rate=1.0,2.0"]
MEANS = {1.0: 0.70, 2.0: 0.712, 3.0: 0.30}  # objective by learning rate
LUCK = (
    0.000,
    0.010,
    -0.010,
    0.005,
    -0.005,
    0.012,
    0.003,
    -0.008,
    0.006,
    -0.002,
    0.004,
    0.001,
    -0.004,
    0.007,
    0.002,
)


class Results:
    """Gives each run an objective; counts the runs, and ends one as it is told."""

    def __init__(self) -> None:
        self.runs: list[tuple[float, int]] = []
        self.ends: dict[tuple[float, int], ExitCode] = {}

    def perform(self, run: Run) -> tuple[ExitCode, dict[str, Any], None]:
        rate, seed = float(run.plan.steps[0].config.learning_rate or 0), run.plan.steps[0].config.seed
        self.runs.append((rate, seed))
        code = self.ends.get((rate, seed), ExitCode.DONE)
        state = {ExitCode.DONE: "done", ExitCode.INTERRUPTED: "interrupted"}.get(code, "failed")
        shared, own = LUCK[seed - 1], 0.6 * LUCK[(seed * 7 + int(rate)) % len(LUCK)]
        summary = {
            "name": "mine", "overrides": list(run.plan.overrides), "state": state, "comparisons": {}, "elapsed_seconds": 0.0,
            "steps": {} if state == "done" else {"sft": {"state": state, "reason": "out of memory"}},
            "objective": MEANS[rate] + shared + own if state == "done" else None, "objective_of": "post sampled",
            "post_accuracy": {"sampled": {"value": 0.5, "n": 1000, "low": 0.4, "high": 0.6}},
        }  # fmt: skip
        (run.folder / "summary.json").write_text(json.dumps(summary))
        return code, summary, None


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.chdir(tmp_path)
    found = Results()
    monkeypatch.setattr(members_module, "perform", found.perform)
    return found


def race() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("sweep/race.json").read_text())
    return found


def test_a_race_stops_losers_and_names_the_best(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(LINE) == 0
    found = race()
    assert found["state"] == "decided"
    seeds = {setting["overrides"][0]: len(setting["seeds"]) for setting in found["settings"]}
    assert seeds["learning_rate=3.0"] == found["rules"]["first_seeds"] == 3  # far behind: no further seed
    best = next(setting for setting in found["settings"] if setting["state"] == "best")
    assert best["overrides"] == ["learning_rate=2.0"]
    assert sorted(results.runs) == sorted(set(results.runs))  # no run twice
    assert len(results.runs) == found["num_runs"] < 3 * 15
    printed = capsys.readouterr()
    assert "## Race" in printed.out
    assert "learning_rate=2.0 (mean 7" in printed.out
    assert "no further seeds for" in printed.err
    assert main(["sweep", "status", "sweep"]) == 0
    assert "learning_rate=3.0: worse: " in capsys.readouterr().out
    page = Path("sweep/report.html").read_text()
    assert "The race" in page
    assert "Rounds of the race" in page


@pytest.mark.slow
def test_an_interrupted_race_goes_on_to_the_same_decisions(results: Results) -> None:
    main(TWO)
    whole, runs = race(), set(results.runs)
    Path("sweep").rename("whole")
    results.runs.clear()
    results.ends[2.0, 2] = ExitCode.INTERRUPTED
    assert main(TWO) == ExitCode.INTERRUPTED
    assert race()["state"] == "racing"
    del results.ends[2.0, 2]
    shutil.copytree("sweep", "copy")  # this process holds the lock of the folder until it ends
    Path("sweep").rename("locked")
    Path("copy").rename("sweep")
    assert main(TWO) == 0
    assert race() == whole
    assert set(results.runs) == runs


def test_a_setting_without_a_result_leaves_the_race(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    results.ends[2.0, 2] = ExitCode.FAILED
    assert main(LINE) == ExitCode.FAILED
    found = race()
    assert found["state"] == "decided"
    assert [setting["state"] for setting in found["settings"]] == ["best", "left", "dropped"]
    assert "run 4: step sft failed: out of memory" in capsys.readouterr().out


def test_the_budget_ends_a_race(results: Results) -> None:
    assert main([*TWO, "sweep.race_runs=7", "sweep.race_delta=0"]) == 0
    found = race()
    assert found["state"] == "spent"
    assert found["num_runs"] == 6
    assert "undecided, the budget is spent after" in found["verdict"]


def test_seeds_that_are_listed_come_first(results: Results) -> None:
    main([*TWO, "seed=7,5"])
    assert race()["settings"][0]["seeds"][:3] == [7, 5, 8]
    assert set(results.runs) >= {(1.0, 5), (1.0, 7), (1.0, 8)}


@pytest.mark.parametrize(
    ("line", "part"),
    [
        pytest.param(["sweep.race=true", *SHORT], "put -m before the overrides", id="no sweep"),
        pytest.param(
            ["-m", "sweep.race=true", *SHORT, "seed=1,2,3"], "there is one; list values", id="one setting"
        ),
        pytest.param(
            [*LINE, "sweep.race_seeds=2"], "nothing can be decided before 3 seeds", id="too few seeds"
        ),
        pytest.param(
            [*LINE, "sweep.race_runs=5"], "which are 9 runs; type sweep.race_runs=18", id="too few runs"
        ),
        pytest.param(
            [*LINE, "seed=1,2,3,4", "sweep.race_seeds=3"], "type sweep.race_seeds=4", id="more are listed"
        ),
        pytest.param([*LINE, "sweep.race_delta=-1"], "greater than or equal to 0", id="delta"),
        pytest.param([*LINE, "evaluation.after=false"], "type evaluation.after=true", id="no objective"),
    ],
)
def test_a_race_that_cannot_work_is_refused(
    line: list[str], part: str, results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == 2
    assert part in capsys.readouterr().err
    assert not results.runs
    assert not Path("sweep").exists()


def test_plan_says_how_a_race_ends(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *LINE]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "a race of 3 settings, 9 to 45 runs" in text
    assert "each gets the seeds 1, 2, 3 first" in text
    assert "15 seeds of a setting" in text
    assert "expected: " in text
    assert "between two settings is seen (3 seeds, " in text  # though one seed of each is planned
    assert not results.runs


def test_the_first_round_is_not_said_to_have_no_finished_run(
    results: Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results.ends[1.0, 2] = ExitCode.INTERRUPTED
    monkeypatch.setattr(race_module, "_collect", lambda *_: None)  # killed before the round was recorded
    main(TWO)
    assert race()["state"] == "racing"
    capsys.readouterr()
    main(["sweep", "status", "sweep"])
    assert "nothing is decided before each setting has its first 3 seeds" in capsys.readouterr().out


@pytest.mark.slow
def test_a_race_that_is_killed_goes_on(tmp_path: Path) -> None:
    line = [
        sys.executable, "-m", "r1exp", "-m", "hydra.sweep.dir=sweep", "stage=evaluate", "debug=fast", "tracking=none",
        "launcher.threads_per_process=1", "sweep.race=true", "sweep.race_seeds=3", "evaluation.temperature=0.5,1.0",
    ]  # fmt: skip
    first = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    second_run = tmp_path / "sweep" / "1" / "summary.json"
    deadline = time.monotonic() + 500
    while not second_run.exists() and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert json.loads((tmp_path / "sweep" / "race.json").read_text())["state"] == "racing"
    done = list(tmp_path.glob("sweep/*/steps/*/artifact/scores.json"))
    written = {path: path.stat().st_mtime_ns for path in done}
    assert written
    again = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    found = json.loads((tmp_path / "sweep" / "race.json").read_text())
    assert found["num_runs"] == 6
    assert found["state"] in ("decided", "spent")
    assert "## Race" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in done} == written  # what was finished is kept
