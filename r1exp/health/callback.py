"""Trainer callback that applies the rules of `health` to logged rows and takes their actions. Runs in workers."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from r1exp.distributed import is_main_process
from r1exp.health.known import is_known
from r1exp.health.monitor import Monitor, Violation
from r1exp.health.settings import HealthSettings
from r1exp.paths import CheckpointPaths, StepPaths
from r1exp.terminal import say
from r1exp.tracking.base import Level
from r1exp.tracking.metrics import MetricsFile


class HealthCallback(TrainerCallback):
    """Applies the health rules to every logged row.

    `adapt_kl` is set to the trainer's method of this name once there is a trainer: it lets the KL controller move beta
    towards a target, and returns what it did.

    All ranks follow the decision of rank 0, because a metric that differs between ranks (`step_time`) must
    not save a checkpoint or stop training on some ranks only.

    Args:
        settings: The rules.
        step_folder: Folder of the step.
        alert: Passes a broken rule on: called with its name, the message, "warn" or "error", and the optimizer step.
    """

    def __init__(
        self, settings: HealthSettings, step_folder: Path, alert: Callable[[str, str, Level, int], None]
    ) -> None:
        self._settings = settings
        self._alert = alert
        self._reports = MetricsFile(StepPaths(step_folder).health_log)
        self._monitor = Monitor(settings)
        self.adapt_kl: Callable[[float], str] = lambda target: "this step has no KL controller"
        self.stopped: Violation | None = None  # the rule that ended the step
        self.finished: Violation | None = None  # the rule that ended training, whose model is the artifact

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Read the trainer's arguments, which a bound may be a multiple of."""
        self._monitor.use_arguments(vars(args))

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
            # Before the report, on every rank.
            done = self.adapt_kl(violation.bound / 2) if violation.action == "adapt" else ""
            if state.is_world_process_zero:
                self._report(violation, done)
            if violation.action in ("save", "finish", "stop"):
                control.should_save = True
            if violation.action in ("finish", "stop"):
                control.should_training_stop = True
            if violation.action == "finish":
                self.finished = violation
            if violation.action == "stop":
                self.stopped = violation

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Name the rules on a metric that only a trainer of the user's own could log, and that no row had."""
        if not state.is_world_process_zero:
            return
        for name in self._monitor.never_applied():
            metric = self._settings.rules[name].metric
            if not is_known(metric):
                say(
                    f"health: {name} never acted: no row has the metric {metric}; set health.rules.{name}.metric"
                )

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save the state of the monitor in the checkpoint."""
        if state.is_world_process_zero:
            paths = CheckpointPaths.at(Path(args.output_dir), state.global_step)
            ended = {
                name: None if violation is None else asdict(violation)
                for name, violation in (("stopped", self.stopped), ("finished", self.finished))
            }
            state_now = self._monitor.state() | ended
            paths.health.write_text(json.dumps(state_now), encoding="utf-8")

    def forget(self) -> None:
        """Remove the reports of an execution that left no checkpoint; on rank 0."""
        if is_main_process() and self._reports.rows():
            self._reports.forget_after(-1)

    def resume(self, checkpoint: Path) -> None:
        """Restore the state of the monitor from a checkpoint; call it on every rank.

        A step that a rule stopped there stays stopped, and one whose training a rule ended is not trained further. Reports written after the checkpoint are removed, because the resumed step writes them again.
        """
        paths = CheckpointPaths(checkpoint)
        if is_main_process():
            self._reports.forget_after(paths.global_step)
        if paths.health.exists():
            saved = json.loads(paths.health.read_text(encoding="utf-8"))
            self._monitor.load(saved)
            self.stopped = Violation(**saved["stopped"]) if saved.get("stopped") else None
            self.finished = Violation(**saved["finished"]) if saved.get("finished") else None

    def text(self, violation: Violation) -> str:
        """Return the message about a broken rule that is shown to the user."""
        return violation.text(self._settings.rules[violation.rule].metric)

    def _report(self, violation: Violation, done: str) -> None:
        sentence = self.text(violation) + (f" ({done})" if done else "")
        say(f"health: {sentence}")
        row = {
            "step": violation.step,
            "rule": violation.rule,
            "metric": self._settings.rules[violation.rule].metric,
            "value": violation.value,
            "bound": violation.bound,
        }
        report = {**row, "action": violation.action, "sentence": sentence}
        self._reports.append(report)
        self._alert(
            violation.rule, sentence, "error" if violation.action == "stop" else "warn", violation.step
        )


def _of_rank_0(found: list[Violation]) -> list[Violation]:
    """Return the violations found on rank 0. A collective operation: every rank must call it."""
    if not torch.distributed.is_initialized():
        return found
    box = [found]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]
