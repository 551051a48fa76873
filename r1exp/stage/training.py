"""Runs a trainer from the last complete checkpoint to the end, and saves the artifact. Shared by all training stages."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, set_seed
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer_callback import PrinterCallback, TrainerControl, TrainerState
from transformers.trainer_callback import ProgressCallback as BarCallback
from transformers.training_args import TrainingArguments

from r1exp.algorithm.critic import detach, without_critic
from r1exp.errors import ExitCode, StepFailed, StoppedByHealth
from r1exp.health.callback import HealthCallback
from r1exp.model.load import save_artifact
from r1exp.paths import CheckpointPaths, StepPaths
from r1exp.stage.step import Step
from r1exp.stage.stopping import StopCallback
from r1exp.stage.tracking import close_run, open_run
from r1exp.stage.training_progress import ProgressCallback
from r1exp.step.checkpoints import last_checkpoint, mark_complete, mark_of
from r1exp.tracking.callback import TrackingCallback
from r1exp.tracking.metrics import MetricsFile
from r1exp.tracking.wandb import WandbRun

MakeTrainer = Callable[[Path, list[TrainerCallback]], Trainer]


def train(
    step: Step, folder: Path, tokenizer: PreTrainedTokenizerBase, make_trainer: MakeTrainer
) -> str | None:
    """Train to the end, from the last complete checkpoint if there is one, and save `artifact/`.

    Returns the W&B id of the step, or None without W&B.
    """
    paths = StepPaths(folder)
    set_seed(step.config.seed)  # LoRA weights are sampled before the trainer sets the seed
    metrics = MetricsFile(paths.metrics)
    resume = last_checkpoint(folder)
    known = None if resume is None else mark_of(resume, step).tracking_id
    run = open_run(step, folder, known)
    health = HealthCallback(step.config.health, folder)
    stop = StopCallback(folder)
    trainer = make_trainer(
        paths.checkpoints,
        [TrackingCallback(metrics, run), health, stop, _MarkCheckpoint(step, run), ProgressCallback(folder)],
    )
    for callback in (PrinterCallback, BarCallback):
        trainer.remove_callback(callback)
    if trainer.accelerator.num_processes != step.world_size:
        raise StepFailed(
            f"{step.world_size} ranks were planned, but the trainer sees {trainer.accelerator.num_processes}: "
            "each rank would have trained alone"
        )
    if resume is not None:
        health.resume(resume)
        if trainer.is_world_process_zero():
            metrics.forget_after(CheckpointPaths(resume).global_step)
    elif trainer.is_world_process_zero():
        metrics.forget_after(-1)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    if health.stopped is not None:
        close_run(run, ExitCode.STOPPED)
        raise StoppedByHealth(health.text(health.stopped))
    request = stop.error()
    if request is not None:
        close_run(run, request.exit_code)
        trainer.accelerator.wait_for_everyone()  # a rank that exits first would end the others
        raise request
    _export(trainer, tokenizer, paths.artifact)
    return close_run(run, ExitCode.DONE)


def _export(trainer: Trainer, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save the policy without a critic, gathered if the ranks hold partitions of it."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, PeftModel):
        with _gathered(model):
            if trainer.is_world_process_zero():
                detach(model)
                save_artifact(model, tokenizer, folder)
    else:
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if trainer.is_world_process_zero():  # under ZeRO-3 the other ranks have no weights
            save_artifact(model, tokenizer, folder, without_critic(weights))
    trainer.accelerator.wait_for_everyone()


def _gathered(model: PeftModel) -> AbstractContextManager[None]:
    """Return a context in which this rank holds every weight in full."""
    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    import deepspeed  # an optional extra

    return deepspeed.zero.GatheredParameters(list(model.parameters()))


class _MarkCheckpoint(TrainerCallback):
    """Marks a checkpoint as complete after everything in it is written."""

    def __init__(self, step: Step, run: WandbRun | None) -> None:
        self._step = step
        self._run = run

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the mark last, so that a checkpoint that a crash left incomplete is not loaded."""
        if state.is_world_process_zero:
            paths = CheckpointPaths.at(Path(args.output_dir), state.global_step)
            mark_complete(
                paths.folder, self._step, state.global_step, None if self._run is None else self._run.id
            )
