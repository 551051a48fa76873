"""Watches a trainer's log with the rules of `health`, and acts. Runs in workers."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from r1exp.health.monitor import Monitor, Violation
from r1exp.health.settings import HealthSettings
from r1exp.tracking.metrics import MetricsFile

_STATE = "health.json"  # in a checkpoint
_SAID = "health.jsonl"  # in the folder of the step


class HealthCallback(TrainerCallback):
    """Rank 0 decides for all: a metric of one rank alone (step_time) must not save or stop on that rank alone."""

    def __init__(self, settings: HealthSettings, step_folder: Path) -> None:
        self._settings = settings
        self._folder = step_folder
        self._monitor = Monitor(settings)
        self.stopped: Violation | None = None  # the rule that ended the step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Apply the rules to a logged row."""
        found = self._monitor.observe(state.global_step, logs or {})
        for violation in _of_rank_0(found):
            if state.is_world_process_zero:
                self._tell(violation)
            if violation.action != "warn":
                control.should_save = True
            if violation.action == "stop":
                control.should_training_stop = True
                self.stopped = violation

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep what the monitor knows with the checkpoint."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / _STATE).write_text(json.dumps(self._monitor.state()), encoding="utf-8")

    def resume(self, checkpoint: Path) -> None:
        """Go on watching from a checkpoint; what was said after it will be said again. On every rank."""
        if int(os.environ.get("RANK", "0")) == 0:
            MetricsFile(self._folder / _SAID).forget_after(int(checkpoint.name.rpartition("-")[2]))
        if (checkpoint / _STATE).exists():
            self._monitor.load(json.loads((checkpoint / _STATE).read_text(encoding="utf-8")))

    def text(self, violation: Violation) -> str:
        """Return the sentence a person reads."""
        return violation.text(self._settings.rules[violation.rule].metric)

    def _tell(self, violation: Violation) -> None:
        sentence = self.text(violation)
        sys.stderr.write(f"health: {sentence}\n")
        row = {
            "step": violation.step,
            "rule": violation.rule,
            "value": violation.value,
            "bound": violation.bound,
        }
        said = {**row, "action": violation.action, "sentence": sentence}
        MetricsFile(self._folder / _SAID).append(said)


def _of_rank_0(found: list[Violation]) -> list[Violation]:
    """Return what rank 0 found; every rank must call it."""
    if not torch.distributed.is_initialized():
        return found
    box = [found]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]
