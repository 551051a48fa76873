"""A sweeper plug-in of Hydra chooses the values of the members by the objectives of earlier ones."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from r1exp.__main__ import main
from r1exp.errors import ExitCode
from r1exp.runner import members as members_module
from r1exp.runner.run import Run


class Halving(Sweeper):
    """Halves the learning rate until the objective no longer rises."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> float:
        fixed = [text for text in arguments if not text.startswith("learning_rate=")]
        rate, best = 8.0, float("-inf")
        for number in range(9):
            assert self.launcher is not None
            (job,) = self.launcher.launch([[*fixed, f"learning_rate={rate}"]], initial_job_idx=number)
            if job.return_value <= best:
                break
            best, rate = job.return_value, rate / 2
        return rate


Halving.__module__ = "hydra_plugins.halving"  # Hydra accepts plug-ins of that package only
FIXED = ["stage=sft", "tracking=none", "evaluation.before=false"]


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the arguments that choose the sweeper, in a folder whose runs score best at a rate of 2."""
    group = tmp_path / "conf" / "hydra" / "sweeper"
    group.mkdir(parents=True)
    (group / "halving.yaml").write_text("_target_: hydra_plugins.halving.Halving\n")
    monkeypatch.chdir(tmp_path)
    package, module = ModuleType("hydra_plugins"), ModuleType(Halving.__module__)
    vars(module)["Halving"] = Halving
    vars(package).update(halving=module, __path__=[])
    monkeypatch.setitem(sys.modules, "hydra_plugins", package)
    monkeypatch.setitem(sys.modules, Halving.__module__, module)
    Plugins.instance().register(Halving)

    def finish(run: Run) -> tuple[ExitCode, dict[str, Any], None]:
        rate = run.plan.steps[0].config.learning_rate
        assert rate is not None
        summary = {
            "objective": -abs(rate - 2.0),
            "objective_of": "post sampled",
            "post_accuracy": {},
            "state": "done",
            "steps": {},
            "comparisons": {},
            "name": "mine",
        }
        summary |= {"overrides": list(run.plan.overrides), "elapsed_seconds": 0.0}
        (run.folder / "summary.json").write_text(json.dumps(summary))
        return ExitCode.DONE, summary, None

    monkeypatch.setattr(members_module, "perform", finish)
    return ["--config-dir", "conf", "-m", "hydra/sweeper=halving", "hydra.sweep.dir=sweep", *FIXED]


def test_a_sweeper_receives_each_objective_and_chooses_the_next_value(
    arguments: list[str], tmp_path: Path
) -> None:
    assert main([*arguments, "learning_rate=interval(1,8)"]) == 0
    rows = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    rates = [next(text for text in row["overrides"] if "learning_rate" in text) for row in rows]
    assert rates == [f"learning_rate={rate}" for rate in (8.0, 4.0, 2.0, 1.0)]
    assert [row["objective"] for row in rows] == [-6.0, -2.0, 0.0, -1.0]


def test_a_mistake_is_refused_before_the_sweeper_starts(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "learning_rate=interval(1,8)", "max_stepps=3"]) == 2
    assert "Did you mean max_steps?" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_an_interval_needs_a_sweeper_that_draws_from_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [text for text in arguments if not text.startswith("hydra/sweeper")]
    assert main([*plain, "learning_rate=interval(1,8)"]) == 2
    assert "hydra/sweeper=basic runs listed values only" in capsys.readouterr().err
