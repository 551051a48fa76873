"""Tracks in TensorBoard's event files, below the step's folder. Imports neither torch nor TensorFlow.

`tensorboard --logdir runs` shows every run.
"""

import time
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from r1exp.errors import ExitCode
from r1exp.tracking.base import Level, Row, TrackedRun, Tracker

FOLDER = "tensorboard"


class Tensorboard(Tracker):
    """TensorBoard."""

    kind: Literal["tensorboard"]
    needs: ClassVar = ("tensorboard", "pip install 'r1exp[tensorboard]'")

    _writer: Any = None
    _start: float = 0.0

    def start(self, run: TrackedRun) -> None:
        """Open a new event file; TensorBoard shows all files of the folder as one run."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = run.folder / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventFileWriter(str(folder))
        self._text("r1exp", f"{run.group}, {run.name}, {run.job_type}", 0)

    def log(self, row: Row, step: int) -> None:
        """Write every number as a scalar."""
        from tensorboard.compat.proto import summary_pb2

        self._add(
            summary_pb2.Summary(
                value=[
                    summary_pb2.Summary.Value(tag=key, simple_value=float(value))
                    for key, value in row.items()
                    if isinstance(value, int | float)
                ]
            ),
            step,
        )

    def log_completions(self, rows: Sequence[Row], step: int) -> None:
        """Write a table in Markdown to the text `completions`."""
        columns = list(rows[0])
        lines = [f"|{'|'.join(columns)}|", f"|{'---|' * len(columns)}"]
        lines += [f"|{'|'.join(_cell(row[column]) for column in columns)}|" for row in rows]
        self._text("completions", "\n".join(lines), step)

    def alert(self, title: str, text: str, level: Level, step: int) -> None:
        """Write a line to the text `health`."""
        self._text("health", f"{level}: {title}: {text}", step)

    def summarize(self, values: Row) -> None:
        """Write numbers as scalars at step 0."""
        self.log({key: value for key, value in values.items() if value is not None}, 0)

    def finish(self, code: ExitCode) -> None:
        """Close the file."""
        del code
        self._writer.close()

    def _text(self, tag: str, text: str, step: int) -> None:
        from tensorboard.compat.proto import summary_pb2
        from tensorboard.plugins.text import metadata
        from tensorboard.util import tensor_util

        value = summary_pb2.Summary.Value(
            tag=tag,
            metadata=metadata.create_summary_metadata(display_name=tag, description=""),
            tensor=tensor_util.make_tensor_proto(text),
        )
        self._add(summary_pb2.Summary(value=[value]), step)

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto import event_pb2

        self._writer.add_event(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()


def _cell(value: Any) -> str:
    """Return a value as the text of a cell of a Markdown table."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", "<br>")
