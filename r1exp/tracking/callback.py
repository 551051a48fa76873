"""Trainer callback that writes every logged row to metrics.jsonl and the trackers, under the same names. Runs in workers."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from r1exp.tracking.metrics import MetricsFile, loggable
from r1exp.tracking.trackers import Trackers


class TrackingCallback(TrainerCallback):
    """Writes logged rows on rank 0; does nothing on the other ranks."""

    def __init__(self, metrics: MetricsFile, trackers: Trackers) -> None:
        self._metrics = metrics
        self._trackers = trackers

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write one row."""
        if not state.is_world_process_zero or logs is None:
            return
        row = loggable(logs, state.global_step)
        self._metrics.append(row)
        self._trackers.log(row, state.global_step)
