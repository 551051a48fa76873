"""Watches a trainer's log with the rules of `health`, and acts. Runs in workers."""

import json
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from r1exp.health.monitor import Monitor, Violation
from r1exp.health.settings import HealthSettings

_STATE = "health.json"


class HealthCallback(TrainerCallback):
    """Every rank sees the same rows and so decides the same."""

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
        for violation in self._monitor.observe(state.global_step, logs or {}):
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
        """Go on watching from a checkpoint."""
        if (checkpoint / _STATE).exists():
            self._monitor.load(json.loads((checkpoint / _STATE).read_text(encoding="utf-8")))

    def text(self, violation: Violation) -> str:
        """Return the sentence a person reads."""
        return violation.text(self._settings.rules[violation.rule].metric)

    def _tell(self, violation: Violation) -> None:
        sentence = self.text(violation)
        sys.stderr.write(f"health: {sentence}\n")
        with (self._folder / "health.jsonl").open("a", encoding="utf-8") as file:
            row = {
                "step": violation.step,
                "rule": violation.rule,
                "value": violation.value,
                "bound": violation.bound,
            }
            file.write(json.dumps({**row, "action": violation.action, "sentence": sentence}) + "\n")
