"""Python interface for notebooks and scripts: compose a run, plan it, run it, and read its results. Torch-free.

from r1exp import compose, open_run

run = compose("rewards=vote_partial", "beta=0.01").run()
run.scores
open_run("runs/2026-11-20/12-00-00-quickstart").metrics
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1exp.config.compose import parsed, search_path_of, session
from r1exp.config.experiment import Experiment, RunConfig, experiment_from
from r1exp.errors import Refused
from r1exp.files import read_json
from r1exp.paths import RunPaths, StepPaths
from r1exp.plan.run_plan import RunPlan, has_plan, read_plan
from r1exp.plan.screen import screen_of
from r1exp.plan.steps import PlannedStep, planned_steps
from r1exp.report.summary import accuracies, summarize
from r1exp.runner.run_directory import perform, start_run
from r1exp.tracking.metrics import MetricsFile

if TYPE_CHECKING:
    import pandas as pd


def compose(*overrides: str, config_dirs: Sequence[str | Path] = ()) -> "ComposedRun":
    """Compose and check one run, as `r1exp plan` does.

    Args:
        overrides: As on the command line, without shell quoting: `"rewards=vote_partial"`.
        config_dirs: Folders with config groups of your own, as `--config-dir`.

    Raises:
        Refused: anything that cannot work, with what to write instead.
    """
    folders = [Path(folder) for folder in config_dirs]
    search_path, arguments = search_path_of(overrides)
    with session(folders, search_path):
        swept = [override.text for override in parsed(arguments) if override.is_sweep]
        if swept:
            raise Refused(
                f"{swept[0]} lists several values, and compose makes one run; call it in a loop, or type r1exp -m"
            )
        experiment = experiment_from(arguments)
        return ComposedRun(experiment, planned_steps(experiment), folders, search_path)


def open_run(folder: str | Path) -> "RunResults":
    """Open the directory of a run, finished or not.

    Raises:
        Refused: the folder is not the directory of a run.
    """
    path = Path(folder)
    if not has_plan(path):
        raise Refused(f"{path} is not the directory of a run: it has no {RunPaths(path).plan.name}")
    return RunResults(path)


class ComposedRun:
    """A composed and checked run; frozen: editing conf/ does not change it."""

    def __init__(
        self,
        experiment: Experiment,
        steps: tuple[PlannedStep, ...],
        config_dirs: Sequence[Path],
        search_path: Sequence[str],
    ) -> None:
        self._experiment = experiment
        self._steps = steps
        self._config_dirs = config_dirs
        self._search_path = search_path

    @property
    def config(self) -> RunConfig:
        """The configuration of the run as a whole."""
        return self._experiment.run

    @property
    def steps(self) -> tuple[PlannedStep, ...]:
        """The steps in order, each with its name, configuration, batch sizes and trainer arguments."""
        return self._steps

    def plan(self) -> str:
        """Return what `r1exp plan` prints."""
        with session(self._config_dirs, self._search_path):
            return screen_of(self._experiment, self._steps)

    def run(self, folder: str | Path | None = None) -> "RunResults":
        """Run it, or submit it to SLURM, and return its results.

        Args:
            folder: The run directory; None: as `paths` is set.
        """
        run = start_run(self._experiment, self._steps, None if folder is None else Path(folder))
        perform(run)
        return RunResults(run.folder)

    def __repr__(self) -> str:
        names = ", ".join(step.name for step in self._steps)
        return f"ComposedRun({self._experiment.name!r}: {names})"


class RunResults:
    """The results in a run directory, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._plan: RunPlan = read_plan(folder)

    @property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json; of a run that has not ended, what its steps have written so far."""
        path = RunPaths(self.folder).summary
        return dict(read_json(path)) if path.exists() else summarize(self._plan, self.folder)

    @property
    def state(self) -> str:
        """`done`, or the state of the first step that is not."""
        return str(self.summary["state"])

    @property
    def objective(self) -> float | None:
        """What a sweeper maximizes; None where nothing was measured."""
        value = self.summary["objective"]
        return None if value is None else float(value)

    def paths(self, step: str) -> StepPaths:
        """Return the paths of a step, for example `run.paths("rl").artifact`."""
        return self._plan.step_named(step).paths(self.folder)

    @property
    def metrics(self) -> "pd.DataFrame":
        """The logged metrics of all steps: a row for each logged optimizer step, with `step` and `global_step`."""
        import pandas as pd

        rows = [
            {"step": step.name, "global_step": row.pop("step", None), **row}
            for step in self._plan.steps
            for row in MetricsFile(step.paths(self.folder).metrics).rows()
        ]
        return pd.DataFrame(rows, columns=None if rows else ["step", "global_step"])

    @property
    def scores(self) -> "pd.DataFrame":
        """The measured accuracies: `label`, `mode`, `value`, `low` and `high` (95 % interval), and `n` problems."""
        import pandas as pd

        rows = [
            {"label": name.removesuffix("_accuracy"), "mode": mode, **score}
            for name, modes in accuracies(self.summary).items()
            for mode, score in modes.items()
        ]
        return pd.DataFrame(rows, columns=["label", "mode", "value", "low", "high", "n"])

    @property
    def completions(self) -> "pd.DataFrame":
        """Every answer of the evaluations, with `label`, `problem_id`, `mode`, `text`, `answer`, `gold`, `correct`."""
        import pandas as pd

        rows = []
        for step in self._plan.steps:
            path = step.paths(self.folder).results.answers
            if path.exists():
                lines = path.read_text(encoding="utf-8").splitlines()
                rows += [{"label": step.label, **json.loads(line)} for line in lines]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return f"RunResults({str(self.folder)!r}: {self.state})"
