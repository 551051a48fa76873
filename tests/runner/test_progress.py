"""The progress of a step, read from its metrics."""

import io
from pathlib import Path

from r1exp.runner.progress import Progress
from r1exp.tracking.metrics import MetricsFile


def test_progress_continues_when_a_resumed_step_drops_rows(tmp_path: Path) -> None:
    """The old read offset may be in the middle of a line of the new file."""
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        metrics.append({"step": step, "loss": 1.0 / step})
    progress = Progress("sft", tmp_path / "metrics.jsonl", 9, io.StringIO())
    progress.follow()
    metrics.forget_after(1)
    metrics.append({"step": 2, "loss": 0.123456789})
    progress.follow()
    assert (progress._row["step"], progress._row["loss"]) == (2, 0.123456789)
