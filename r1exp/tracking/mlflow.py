"""Tracks in MLflow, through its client. The only file that imports mlflow.

The client alone (`mlflow-skinny`) is needed, with SQLAlchemy and Alembic for a local database; `mlflow ui`, which shows
it, is part of the whole package.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from r1exp.errors import ExitCode
from r1exp.settings import Name
from r1exp.tracking.base import Level, Row, TrackedRun, Tracker, refuse_secret

_LOCAL = "mlflow.db"  # MLflow's own default, in the folder in which the command was typed
_IDENTITY = "r1exp.identity"
_STATES = {ExitCode.DONE: "FINISHED", ExitCode.INTERRUPTED: "KILLED", ExitCode.PREEMPTED: "KILLED"}
_MAX_PARAMS = 100  # of one request
_MAX_LENGTH = 6000  # characters of a parameter
_VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that does not answer is given up after a minute and a half, instead of a quarter of an hour.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class Mlflow(Tracker):
    """MLflow: an experiment for the project, and a run of MLflow for each step."""

    kind: Literal["mlflow"]
    project: Name  # name of the experiment
    # Tracking server or database; null: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.
    uri: Name | None
    tags: tuple[Name, ...]  # names of tags that every run gets, with the value true

    needs: ClassVar = ("mlflow", "pip install 'r1exp[mlflow]'")
    _client: Any = None
    _id: str = ""

    @field_validator("uri")
    @classmethod
    def _has_no_password(cls, uri: str | None) -> str | None:
        return refuse_secret("tracking.mlflow.uri", uri)

    def start(self, run: TrackedRun) -> None:
        """Create the run, or continue the one that has the same identity in a tag."""
        for name, value in _VARIABLES.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        # Absolute, because mlflow keeps connections by this text.
        local = f"sqlite:///{Path(_LOCAL).resolve()}"
        self._client = MlflowClient(tracking_uri=self.uri or os.environ.get("MLFLOW_TRACKING_URI") or local)
        known = self._client.get_experiment_by_name(self.project)
        experiment = self._client.create_experiment(self.project) if known is None else known.experiment_id
        found = self._client.search_runs([experiment], f"tags.`{_IDENTITY}` = '{run.identity}'")
        if found:
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        tags = {_IDENTITY: run.identity, "group": run.group, "job_type": run.job_type}
        tags |= dict.fromkeys(self.tags, "true")
        self._id = self._client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
        self._log_params(run.config)

    def log(self, row: Row, step: int) -> None:
        """Log every number at an optimizer step."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        metrics = [
            Metric(key, float(value), now, step)
            for key, value in row.items()
            if isinstance(value, int | float)
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def log_completions(self, rows: Sequence[Row], step: int) -> None:
        """Log a table as the artifact `completions/step-N.json`."""
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        self._client.log_table(self._id, columns, f"completions/step-{step:06d}.json")

    def alert(self, title: str, text: str, level: Level, step: int) -> None:
        """Set a tag; MLflow has no alerts."""
        self._client.set_tag(self._id, f"health.{title}", f"{level}, step {step}: {text}")

    def summarize(self, values: Row) -> None:
        """Log numbers as metrics at step 0, and the rest as tags."""
        self.log(values, 0)
        for key, value in values.items():
            if not isinstance(value, int | float):
                self._client.set_tag(self._id, key, value)

    def finish(self, code: ExitCode) -> None:
        """Set the state of the run."""
        self._client.set_terminated(self._id, _STATES.get(code, "FAILED"))

    def _log_params(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, value[:_MAX_LENGTH]) for key, value in _flat(config)]
        for start in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + _MAX_PARAMS])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, text) for every value of nested mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)
