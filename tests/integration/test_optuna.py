"""Sweeps with hydra/sweeper=optuna: real trials on the tiny model, failed trials, and requests that cannot work."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1exp.__main__ import main
from r1exp.errors import ExitCode
from r1exp.runner import members as members_module
from r1exp.runner.run import Run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        find_spec("hydra_plugins") is None or find_spec("hydra_plugins.hydra_optuna_sweeper") is None,
        reason="Optuna's sweeper is not installed; type: make parts",
    ),
]
SWEEP = ["-m", "hydra/sweeper=optuna", "hydra.sweep.dir=sweep", "hydra.sweeper.sampler.seed=1"]
SHORT = [
    "stage=sft",
    "debug=fast",
    "tracking=none",
    "evaluation.before=false",
    "launcher.threads_per_process=1",
]
Perform = Callable[[Run], tuple[ExitCode, dict[str, Any], None]]


def table(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "sweep" / "sweep.json").read_text())
    return found


def measured(tokens: float) -> dict[str, Any]:
    """Return the metrics of an evaluation."""
    share = {"value": 0.5, "n": 10, "low": 0.2, "high": 0.8}
    rates = dict.fromkeys(("accuracy", "exact", "plausible", "format", "cut_off"), share)
    sides = {f"{side}_tokens_{what}": tokens for side in ("input", "output") for what in ("mean", "max")}
    return {**rates, **sides, "samples": 1}


@pytest.fixture
def finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the training of a member by a formula: best at a rate of 2; rates above 3 fail, above 5 are stopped."""
    monkeypatch.chdir(tmp_path)

    def perform(run: Run) -> tuple[ExitCode, dict[str, Any], None]:
        rate = float(run.plan.steps[0].config.learning_rate or 0)
        state, code = ("stopped", 4) if rate > 5 else ("failed", 3) if rate > 3 else ("done", 0)
        steps = {} if state == "done" else {"sft": {"state": state, "reason": "too fast"}}
        summary = {
            "name": "mine", "overrides": list(run.plan.overrides), "state": state, "steps": steps, "comparisons": {},
            "objective": -abs(rate - 2.0) if state == "done" else None, "elapsed_seconds": 0.0,
            "objective_of": "post sampled", "post_accuracy": {},
            "evaluations": {"post": {"test": {"sampled": measured(10.0 * rate)}}},
        }  # fmt: skip
        (run.folder / "summary.json").write_text(json.dumps(summary))
        return ExitCode(code), summary, None

    monkeypatch.setattr(members_module, "perform", perform)
    return tmp_path


def test_trials_maximize_the_objective_and_failed_ones_are_reported(
    finish: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*SWEEP, *SHORT, "hydra.sweeper.n_trials=16", "learning_rate=interval(0.5,8.0)"]
    assert main(line) == 4  # the worst of the members'
    rows = table(finish)
    assert len(rows) == 16
    done = [row for row in rows if row["state"] == "done"]
    best = max(done, key=lambda row: float(row["objective"]))
    assert {row["state"] for row in rows} == {"done", "failed", "stopped"}
    found = yaml.safe_load((finish / "sweep" / "optimization_results.yaml").read_text())
    assert found["best_value"] == best["objective"]
    assert f"learning_rate={found['best_params']['learning_rate']}" in best["overrides"]
    printed = capsys.readouterr()
    assert f"Best run: {best['member']} (learning_rate=" in printed.out
    assert "left out because they have not finished" in printed.out
    assert "stopped: step sft stopped: too fast" in printed.out
    assert "Traceback" not in printed.err
    assert not list((finish / "runs").glob("2*"))  # no second folder of the sweep


def test_every_kind_of_value_reaches_the_trials(finish: Path) -> None:
    line = [*SWEEP, *SHORT, "hydra.sweeper.n_trials=6", "learning_rate=choice(1.0,2.0)", "seed=range(1,3)",
            "prompt=glob(*_answer)", "max_steps=tag(log,int(interval(1,100)))", "model.lora.r=4"]  # fmt: skip
    assert main(line) == 0
    members = [dict(text.split("=", 1) for text in row["overrides"]) for row in table(finish)]
    assert {member["prompt"] for member in members} <= {"reasoning_answer", "think_answer"}
    assert {member["seed"] for member in members} <= {"1", "2", "3"}
    assert all(1 <= int(member["max_steps"]) <= 100 for member in members)
    assert all(member["model.lora.r"] == "4" and "hydra/sweeper" not in member for member in members)


def test_a_sweep_file_may_choose_the_sweeper_and_the_values(finish: Path) -> None:
    (finish / "conf" / "sweeps").mkdir(parents=True)
    (finish / "conf" / "sweeps" / "rates.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /hydra/sweeper: optuna\n"
        "hydra:\n  mode: MULTIRUN\n  sweeper:\n    n_trials: 3\n    params:\n"
        "      learning_rate: interval(0.5,2.5)\n      seed: 1,2\n"
    )
    line = ["--config-dir=conf", "sweeps=rates", "seed=5", "hydra.sweep.dir=sweep", *SHORT]
    assert main(line) == 0
    rows = table(finish)
    assert len(rows) == 3
    assert all("seed=5" in row["overrides"] for row in rows)  # what is typed replaces the file's


def test_a_study_is_kept_in_its_storage(finish: Path) -> None:
    kept = [
        "hydra.sweeper.storage=sqlite:///study.db",
        "hydra.sweeper.study_name=mine",
        "hydra.sweeper.n_trials=2",
    ]
    assert main([*SWEEP, *SHORT, *kept, "learning_rate=interval(0.5,2.5)"]) == 0
    assert main([*SWEEP, *SHORT, *kept, "learning_rate=interval(0.5,2.5)", "hydra.sweep.dir=more"]) == 0
    import optuna

    assert len(optuna.load_study(study_name="mine", storage="sqlite:///study.db").trials) == 4


TWO = "sweep.objectives=[accuracy,tokens]"


def test_two_objectives_end_in_a_pareto_front(finish: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [*SWEEP, *SHORT, TWO, "hydra.sweeper.n_trials=12", "learning_rate=interval(0.5,4.0)"]
    assert main(line) in (0, 3)  # rates above 3 fail
    found = yaml.safe_load((finish / "sweep" / "optimization_results.yaml").read_text())
    assert all(len(solution["values"]) == 2 for solution in found["solutions"])
    pareto = json.loads((finish / "sweep" / "sweep-summary.json").read_text())["pareto"]
    assert pareto["objectives"] == {"accuracy": "maximize", "tokens": "minimize"}
    front = {point["values"]["accuracy"]["value"] for point in pareto["points"] if point["on_front"]}
    assert front == {solution["values"][0] for solution in found["solutions"]}  # Optuna's own front
    assert "## Pareto front" in capsys.readouterr().out
    assert "<svg" in (finish / "sweep" / "report.html").read_text()
    assert (finish / "sweep" / "figures" / "pareto.svg").exists()
    assert "(figures/pareto.svg)" in (finish / "sweep" / "report.md").read_text()


def test_fewer_tokens_alone_are_minimized(finish: Path) -> None:
    line = [
        *SWEEP,
        *SHORT,
        "sweep.objectives=[tokens]",
        "hydra.sweeper.n_trials=5",
        "learning_rate=interval(0.5,2.5)",
    ]
    assert main(line) == 0
    found = yaml.safe_load((finish / "sweep" / "optimization_results.yaml").read_text())
    tokens = [row["evaluations"]["post"]["test"]["sampled"]["output_tokens_mean"] for row in table(finish)]
    assert found["best_value"] == min(tokens)


def test_a_study_with_two_objectives_is_kept_in_its_storage(finish: Path) -> None:
    kept = [
        "hydra.sweeper.storage=sqlite:///study.db",
        "hydra.sweeper.study_name=mine",
        "hydra.sweeper.n_trials=2",
    ]
    assert main([*SWEEP, *SHORT, TWO, *kept, "learning_rate=interval(0.5,2.5)"]) == 0
    assert main([*SWEEP, *SHORT, TWO, *kept, "learning_rate=interval(0.5,2.5)", "hydra.sweep.dir=more"]) == 0
    import optuna

    study = optuna.load_study(study_name="mine", storage="sqlite:///study.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        pytest.param(["hydra/sweeper=optuna", "learning_rate=1"], "put -m before", id="without -m"),
        pytest.param([*SWEEP], "has no values to choose from", id="without values"),
        pytest.param([*SWEEP, "evaluation.after=false", "evaluation.before=false"], "no values", id="neither"),
        pytest.param(
            [*SWEEP, "learning_rate=interval(1,2)", "evaluation.after=false", "evaluation.before=false"],
            "evaluation.after=true",
            id="without an objective",
        ),
        pytest.param(
            [*SWEEP, "learning_rate=interval(1,2)", "evaluation.samples=0"], "evaluation.samples=1", id="greedy only"
        ),
        pytest.param(
            [*SWEEP, "learning_rate=interval(1,2)", "hydra.sweeper.direction=minimize"], "larger", id="direction"
        ),
        pytest.param(
            [*SWEEP, "learning_rate=interval(1,2)", TWO, "hydra.sweeper.direction=[maximize,maximize]"],
            "tokens is better where it is smaller",
            id="directions",
        ),
        pytest.param([*SWEEP, "learning_rate=interval(1,2)", "sweep.objectives=[speed]"], "'tokens'", id="an objective"),
        pytest.param([*SWEEP, "learning_rate=interval(1,2)", "sweep.race=true"], "leave one of the two out", id="a race"),
        pytest.param([*SWEEP, "learning_rate=interval(2,1)"], "hydra/sweeper=optuna: The `low`", id="upside down"),
        pytest.param([*SWEEP, "max_steps=interval(1,9)"], "type int(interval(...))", id="a fraction of a step"),
        pytest.param([*SWEEP, "learning_rat=interval(1,2)"], "Did you mean learning_rate?", id="a misspelt key"),
        pytest.param([*SWEEP, "learning_rate=interval(1,2)", "hydra.sweeper.n_trials=x"], "hydra/sweeper", id="text"),
        pytest.param([*SWEEP, "learning_rate=interval(1,2)", "hydra.sweeper.trials=9"], "hydra.sweeper.", id="a key"),
        pytest.param(
            [*SWEEP, "learning_rate=interval(1,2)", "hydra/sweeper/sampler=tpa"], "sampler/tpa", id="a sampler"
        ),
        pytest.param(
            [*SWEEP, "learning_rate=interval(1,2)", "launcher=slurm", "launcher.partition=gpu"],
            "add launcher.wait=true",
            id="jobs that nobody waits for",
        ),
    ],
)  # fmt: skip
def test_a_request_that_cannot_work_is_refused(
    line: list[str], part: str, finish: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == 2
    message = capsys.readouterr().err
    assert part in message
    assert "Traceback" not in message
    assert not (finish / "sweep").exists()


@pytest.mark.slow
def test_three_real_trials_run_side_by_side(tmp_path: Path) -> None:
    line = [
        *SWEEP,
        *SHORT,
        "hydra.sweeper.n_trials=3",
        "sweep.parallel=3",
        "learning_rate=interval(1e-5,1e-3)",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "r1exp", *line],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path)
    assert [(row["member"], row["state"], row["exit_code"]) for row in rows] == [
        (str(n), "done", 0) for n in range(3)
    ]
    assert all(row["objective"] is not None for row in rows)
    assert "Best run: " in done.stdout
    assert "sft: done" in (tmp_path / "sweep" / "0" / "run.log").read_text()
    starts = [line for line in done.stderr.splitlines() if "starts; its output is in" in line]
    assert len(starts) == 3
