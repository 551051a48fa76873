"""Runs a trainer from the last complete checkpoint to the end, and saves the artifact. Shared by all training stages."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, set_seed
from transformers.trainer_callback import PrinterCallback, TrainerControl, TrainerState
from transformers.trainer_callback import ProgressCallback as BarCallback
from transformers.training_args import TrainingArguments

from r1exp.algorithm.critic import detach, without_critic
from r1exp.algorithm.guards import Guards
from r1exp.distributed import checkpoint_format
from r1exp.errors import StepFailed, StoppedByHealth
from r1exp.files import follow_folder, sync_file
from r1exp.health.callback import HealthCallback
from r1exp.model.load import load_policy, save_artifact
from r1exp.model.partitions import masters, not_partitioned
from r1exp.model.shards import is_sharded, whole_weights
from r1exp.paths import CheckpointPaths, StepPaths
from r1exp.stage.completions import KeepCompletions, Recorder
from r1exp.stage.step import Step
from r1exp.stage.stopping import StopCallback
from r1exp.stage.tracking import open_trackers
from r1exp.stage.training_progress import ProgressCallback
from r1exp.stage.validation import Validation, write_kept
from r1exp.step.checkpoints import (
    good_checkpoint,
    last_checkpoint,
    mark_complete,
    mark_of,
    recorded,
    refuse_other_format,
    rotate,
)
from r1exp.tracking.callback import TrackingCallback
from r1exp.tracking.completions import CompletionFiles
from r1exp.tracking.metrics import MetricsFile
from r1exp.tracking.trackers import Trackers

MakeTrainer = Callable[[Path, list[TrainerCallback]], Guards]


def train(
    step: Step,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    make_trainer: MakeTrainer,
    recorder: Recorder | None = None,
) -> str | None:
    """Train to the end, from the last complete checkpoint if there is one, and save `artifact/`.

    Args:
        step: The step.
        folder: Its folder.
        tokenizer: Tokenizer of the policy.
        make_trainer: Creates the trainer, from the folder of its checkpoints and its callbacks.
        recorder: Has the completions that the trainer scores; None: the trainer samples none.

    Returns the identity of the step in trackers, or None without any.
    """
    set_seed(step.config.seed)  # LoRA weights are sampled before the trainer sets the seed
    resume = last_checkpoint(folder)
    begins = begins_fork(step, resume)
    known = None if resume is None or begins else mark_of(resume, step).tracking_id
    if resume is not None:
        refuse_other_format(resume, step.config.launcher.kind, checkpoint_format())
    # A resumed step computes the rows after its checkpoint again, which the trackers have had before.
    tracked_until = -1 if resume is None else MetricsFile(StepPaths(folder).metrics).last_step()
    with open_trackers(step, folder, known, tracked_until) as trackers:
        health = HealthCallback(step.config.health, folder, trackers.alert)
        stop = StopCallback(folder)
        tracking = TrackingCallback(MetricsFile(StepPaths(folder).metrics), trackers)
        progress = ProgressCallback(folder)
        trainer = make_trainer(
            StepPaths(folder).checkpoints,
            [tracking, health, stop, progress],
        )
        _check(trainer, step)
        if step.fork is not None and begins:
            trainer.begin_fork(
                starts_kl_anew=step.fork.starts_kl_anew,
                starts_random_numbers_anew=step.fork.starts_random_numbers_anew,
            )
        validation = None
        if step.config.validates:
            export = partial(_export, trainer, tokenizer, step=step, is_over=False)
            validation = Validation(
                step, folder, trainer, export, lambda: stop.request is not None, progress.show
            )
            trainer.add_callback(validation)  # before a checkpoint is marked: it is in the checkpoint
        trainer.add_callback(_MarkCheckpoint(step, folder, trackers, trainer))
        files = CompletionFiles(step.config.completions, folder)
        if recorder is not None:
            trainer.add_callback(KeepCompletions(recorder, trainer, files, trackers))
        health.adapt_kl = trainer.adapt_kl
        if resume is None:
            health.forget()
        else:
            health.resume(resume)
        if begins:
            health.stopped = health.finished = (
                None  # a rule that ended the other run there may not end this one
            )
        if validation is not None:
            validation.resume(resume)
        trainer.has_finished = health.finished is not None
        if trainer.is_world_process_zero():
            _forget_after(-1 if resume is None else CheckpointPaths(resume).global_step, folder, files)
        if health.stopped is None:
            trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        error = stop.error() if health.stopped is None else StoppedByHealth(health.text(health.stopped))
        if error is not None:
            trackers.finish(error.exit_code)
            trainer.accelerator.wait_for_everyone()  # a rank that exits first would end the others
            raise error
        _save_result(trainer, tokenizer, step, folder, validation, health)
    return trackers.identity


def begins_fork(step: Step, resume: Path | None) -> bool:
    """Whether a step is a fork that continues the checkpoint of the other run now, and none of its own.

    Raises:
        StepFailed: it is a fork, and has no checkpoint.
    """
    if step.fork is None:
        return False
    if resume is None:
        raise StepFailed(
            f"{step.name} is a fork of {step.fork.run}@{step.fork.at}, and its folder has no checkpoint to begin with; type the "
            "command again"
        )
    mark = mark_of(resume, step, step.fork)
    return mark.key != step.key


def _check(trainer: Trainer, step: Step) -> None:
    """Remove transformers' own output, and raise StepFailed if the ranks are not connected."""
    for callback in (PrinterCallback, BarCallback):
        trainer.remove_callback(callback)
    if trainer.accelerator.num_processes != step.world_size:
        raise StepFailed(
            f"{step.world_size} ranks were planned, but the trainer sees {trainer.accelerator.num_processes}: "
            "each rank would have trained alone"
        )
    if trainer.args.n_gpu > 1:
        raise StepFailed(
            f"one process sees {trainer.args.n_gpu} GPUs and would train on all of them with DataParallel, in which TRL's "
            "trainers fail; type launcher=ddp for one process on each, or CUDA_VISIBLE_DEVICES=0"
        )


def _forget_after(global_step: int, folder: Path, files: CompletionFiles) -> None:
    """Remove rows and completions after a checkpoint, which the resumed step writes again."""
    MetricsFile(StepPaths(folder).metrics).forget_after(global_step)
    files.forget_after(global_step)


def _save_result(
    trainer: Guards,
    tokenizer: PreTrainedTokenizerBase,
    step: Step,
    folder: Path,
    validation: Validation | None,
    health: HealthCallback,
) -> None:
    """Save the best or the last model as the artifact, and which one it is."""
    artifact = StepPaths(folder).artifact
    if trainer.is_world_process_zero():
        ended_by = None if health.finished is None else health.text(health.finished)
        write_kept(step, folder, trainer.state.global_step, validation, ended_by)
    if validation is None or validation.best is None:
        _export(trainer, tokenizer, artifact, step)
        return
    if trainer.is_world_process_zero():
        validation.take_best(artifact)
    trainer.accelerator.wait_for_everyone()


def _export(
    trainer: Guards, tokenizer: PreTrainedTokenizerBase, folder: Path, step: Step, *, is_over: bool = True
) -> None:
    """Save the policy in `model.dtype` with every launcher, and a critic in a folder of its own.

    DeepSpeed computes with weights of the compute dtype; saved are its masters. Adapters are merged into the weights that the
    step started from, read again by rank 0: those in DeepSpeed's hands are rounded, and may be partitioned. Where training
    goes on (`is_over=False`), the model stays as it is.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    settings = step.config.model
    code = (step.model_path, settings.revision) if settings.trust_remote_code else None
    is_main = trainer.is_world_process_zero()
    whole = None
    dtype = torch.float32 if isinstance(model, PeftModel) else getattr(torch, settings.dtype)
    if trainer.is_deepspeed_enabled:
        whole = masters(model, dtype, keep=is_main)
    elif is_sharded(model):
        whole = whole_weights(model, dtype, keep=is_main, is_frozen_left_out=isinstance(model, PeftModel))
    elif not isinstance(model, PeftModel):
        whole = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if is_main:
        beside = partial(trainer.save_beside, model.state_dict() if whole is None else whole)
        weights = None if whole is None else without_critic(whole)
        load_base = None
        if isinstance(model, PeftModel):
            if is_over:
                detach(model)
            plain = settings.model_copy(update={"quantization": None})
            load_base = partial(load_policy, step.model_path, plain)
        with not_partitioned():
            save_artifact(
                model, tokenizer, folder, weights, load_base, code, beside, stays_as_it_is=not is_over
            )
    trainer.accelerator.wait_for_everyone()


def _taken_limit(trainer: Trainer) -> int | None:
    """Return `save_total_limit`, and take it from the trainer.

    transformers 5.17 deletes older checkpoints before the new one has its mark; here they are deleted after it.
    """
    limit = trainer.args.save_total_limit
    trainer.args.save_total_limit = None
    return limit


class _MarkCheckpoint(TrainerCallback):
    """Marks a checkpoint as complete after everything in it is written, and then deletes older ones.

    While a training is in trouble the last good checkpoint stays, in addition to those of `save_total_limit`.
    """

    def __init__(self, step: Step, folder: Path, trackers: Trackers, trainer: Guards) -> None:
        self._step = step
        self._folder = folder
        self._trackers = trackers
        self._trainer = trainer
        self._limit = _taken_limit(trainer)  # complete checkpoints that are kept; None: all

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the mark last, so that a checkpoint that a crash left incomplete is not loaded."""
        checkpoint = CheckpointPaths.at(Path(args.output_dir), state.global_step).folder
        # A collective operation. Every rank has written its files by now (`ExactResume._save_checkpoint` waits for them).
        of_ranks = gather_object([recorded(checkpoint, args.process_index, args.world_size)])
        sound = self._trainer.is_sound()
        if state.is_world_process_zero:
            follow_folder(checkpoint)  # safetensors makes files that only their owner can read
            for log in (StepPaths(self._folder).metrics, StepPaths(self._folder).health_log):
                if log.exists():
                    sync_file(log)  # the resumed step continues them from this checkpoint
            files = {name: record for part in of_ranks for name, record in part.items()}
            identity = self._trackers.identity
            seconds = round(time.monotonic() - self._trainer.save_began, 3)
            mark_complete(
                checkpoint, self._step, state.global_step, identity, files, sound=sound, seconds=seconds
            )
            most = self._trainer.steadiness.last_good
            rotate(self._folder, self._limit, kept=good_checkpoint(self._folder, most))
