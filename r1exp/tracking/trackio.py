"""Tracks in trackio: a local database, a Hugging Face Space, or a server. The only file that imports trackio.

`trackio show --project r1exp` shows the local database, which is in TRACKIO_DIR, or else in the cache of huggingface_hub.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from r1exp.errors import ExitCode
from r1exp.settings import Name
from r1exp.tracking.base import Level, Row, TrackedRun, Tracker, refuse_secret


class Trackio(Tracker):
    """Trackio."""

    kind: Literal["trackio"]
    project: Name
    space: Name | None  # id of a Hugging Face Space, USER/NAME; null: the local database
    server: Name | None  # address of a trackio server; its token is read from TRACKIO_WRITE_TOKEN

    needs: ClassVar = ("trackio", "pip install 'r1exp[trackio]'")
    _run: Any = None

    @field_validator("server")
    @classmethod
    def _has_no_token(cls, server: str | None) -> str | None:
        return refuse_secret("tracking.trackio.server", server)

    def start(self, run: TrackedRun) -> None:
        """Start the run, or continue the one with the same name, which contains the identity."""
        import trackio

        with _quiet():
            self._run = trackio.init(
                project=self.project,
                name=f"{run.name} {run.identity[:8]}",
                group=run.group,
                space_id=self.space,
                server_url=self.server,
                config={**run.config, "job_type": run.job_type},
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, row: Row, step: int) -> None:
        """Log a row at an optimizer step."""
        self._run.log({key: value for key, value in row.items() if value is not None}, step=step)

    def log_completions(self, rows: Sequence[Row], step: int) -> None:
        """Log a table under the key `completions`."""
        import pandas as pd
        import trackio

        self._run.log({"completions": trackio.Table(dataframe=pd.DataFrame(list(rows)))}, step=step)

    def alert(self, title: str, text: str, level: Level, step: int) -> None:
        """Store an alert, which the dashboard shows."""
        from trackio import AlertLevel

        levels = {"warn": AlertLevel.WARN, "error": AlertLevel.ERROR}
        with _quiet():
            self._run.alert(title=title, text=text, level=levels[level], step=step)

    def summarize(self, values: Row) -> None:
        """Log the numbers as a row; trackio has no summary."""
        self.log({key: value for key, value in values.items() if isinstance(value, int | float)}, 0)

    def finish(self, code: ExitCode) -> None:
        """Write what is left to the database, or send it."""
        del code
        with _quiet():
            self._run.finish()


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which trackio's messages to standard output, the place of results, are dropped."""
    return contextlib.redirect_stdout(io.StringIO())
