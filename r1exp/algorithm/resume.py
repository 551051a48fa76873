"""Exact resume: an interrupted and resumed run ends with the weights of an uninterrupted one.

On a CPU the weights are equal bit for bit. transformers restores weights, optimizer, scheduler and random
states, and skips the batches already used. This module restores what transformers and TRL 1.16 do not:

* the epoch: TRL's sampler draws its n-th permutation when the n-th epoch begins, so a resumed run would
  repeat epoch 0; accelerate 1.15 does not pass the epoch to a sampler that it wraps twice (a resumed
  epoch on several ranks);
* completions that are in use (several optimizer steps per generation batch), which would be sampled again;
* the additional state of r1exp's trainers: the KL controller, the stream of further prompts;
* the end: from a checkpoint of the last optimizer step it would train one more, where that is not the end of an epoch;
* tensors saved on the device `cpu:0`, which several CPU ranks save and torch 2.13 cannot load;
* what a fork changes: settings of the optimizer and of the schedule, which the checkpoint has too, and with them the KL
  controller and the random numbers, where their settings changed;
* the powers of beta in DeepSpeed's Adam for CPUs (offload), which it computes by repeated multiplication,
  but after a resume with pow(), which differs by an ulp.
"""

import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, set_seed
from trl.trainer.utils import RepeatSampler

from r1exp.paths import CheckpointPaths

_CPU_PRIORITY = 5  # before torch's own handler of `cpu`, which does not accept an index


def _load_on_cpu(storage: Any, location: str) -> Any:
    return storage if location.startswith("cpu:") else None


torch.serialization.register_package(_CPU_PRIORITY, lambda storage: None, _load_on_cpu)


class EpochRepeatSampler(RepeatSampler):
    """TRL's sampler with a permutation that depends only on the seed and the epoch.

    The n-th epoch uses the n-th permutation of the generator, as in an uninterrupted run of TRL.
    """

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose permutation the next iteration uses."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed)
            for _ in range(self.epoch):
                torch.randperm(self.num_samples, generator=self.generator)
        return super().__iter__()


class ExactResume(Trainer):
    """Saves and restores the state that transformers 5.17 and TRL 1.16 do not."""

    has_finished = False  # training had ended before its last optimizer step where the checkpoint was saved
    save_began = 0.0  # when the newest checkpoint was begun, in seconds of the monotonic clock

    _begins_fork = False  # the checkpoint is of a run with other settings
    _started_anew: frozenset[str] = (
        frozenset()
    )  # parts of the additional state that a fork does not take over
    _has_own_seed = False

    def begin_fork(self, *, starts_kl_anew: bool, starts_random_numbers_anew: bool) -> None:
        """Continue the next checkpoint with the settings of this trainer, where the checkpoint has settings too.

        Args:
            starts_kl_anew: Whether `beta` or its controller has other settings.
            starts_random_numbers_anew: Whether the seed is another one.
        """
        self._begins_fork = True
        self._started_anew = frozenset({"kl"} if starts_kl_anew else ())
        self._has_own_seed = starts_random_numbers_anew

    def resume_state(self) -> dict[str, Any]:
        """Return the additional state of this trainer, as JSON values."""
        return {}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Restore what `resume_state` returned."""
        del state

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # From the last checkpoint nothing is left to train.
        if self.has_finished or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        # Called before transformers wraps the loader again to skip batches; the inner sampler stays the same.
        sampler = _with_set_epoch(kwargs["train_dataloader"])
        if sampler is not None:
            sampler.set_epoch(kwargs["epoch"])
        super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.save_began = time.monotonic()
        super()._save_checkpoint(model, trial)
        checkpoint = CheckpointPaths.at(Path(self.args.output_dir), self.state.global_step)
        torch.save(self._rank_state(), self._rank_file(checkpoint.folder))
        self.accelerator.wait_for_everyone()  # the mark `complete` comes next, from rank 0

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # transformers loads this last before the first batch, in every mode of training.
        groups, rates = _settings_of(self.optimizer, self.lr_scheduler)
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self._begins_fork:
            _set_settings(self.optimizer, self.lr_scheduler, groups, rates)
        if checkpoint is None:
            return
        saved = self._load_rank_state(Path(checkpoint))
        if hasattr(self, "_buffered_inputs"):
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
            self._buffered_inputs = saved["buffer"]
        fresh = self.resume_state() if self._started_anew else {}
        self.restore_state(saved["state"] | {name: fresh[name] for name in self._started_anew & fresh.keys()})
        _multiply_beta_powers(self.optimizer)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if self._has_own_seed:
            set_seed(self.args.seed + self.args.process_index)

    def _rank_file(self, checkpoint: Path) -> Path:
        """Return the file with the state of this rank."""
        return CheckpointPaths(checkpoint).rank_state(self.args.process_index, self.args.world_size)

    def _load_rank_state(self, checkpoint: Path) -> dict[str, Any]:
        """Return the state that this rank saved; with another number of ranks, only the part common to all."""
        own = self._rank_file(checkpoint)
        if own.exists():
            return dict(torch.load(own, map_location=self.args.device, weights_only=True))
        other = CheckpointPaths(checkpoint).rank_0_states()[0]
        warnings.warn(
            f"{checkpoint} was written by {other.stem.rpartition('-')[2]} ranks and is read by "
            f"{self.args.world_size}: the run continues, but not bit for bit like an uninterrupted one",
            stacklevel=2,
        )
        return {**torch.load(other, map_location=self.args.device, weights_only=True), "buffer": None}

    def _rank_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"state": self.resume_state()}
        if hasattr(self, "_buffered_inputs"):  # trainers that sample
            state["buffer"] = self._buffered_inputs if self._step % self.passes_per_generation() else None
        return state

    def passes_per_generation(self) -> int:
        """Return how many passes a trainer that samples makes over each generation batch."""
        return int(self.args.steps_per_generation * self.num_iterations)


class RepeatedPrompts(ExactResume):
    """Exact resume for trainers whose batches repeat each prompt: TRL's GRPO, RLOO and distillation."""

    def _get_train_sampler(self, dataset: Any = None) -> EpochRepeatSampler:
        theirs = super()._get_train_sampler(dataset)
        return EpochRepeatSampler(
            data_source=theirs.data_source,
            mini_repeat_count=theirs.mini_repeat_count,
            batch_size=theirs.batch_size,
            repeat_count=theirs.repeat_count,
            shuffle=theirs.shuffle,
            seed=theirs.seed,
        )


def _settings_of(optimizer: Any, scheduler: Any) -> tuple[list[dict[str, Any]], list[float]]:
    """Return the settings of each parameter group, without the current learning rate, and the rates that are scheduled."""
    groups = [
        {name: value for name, value in group.items() if name not in ("params", "lr")}
        for group in getattr(optimizer, "param_groups", ())
    ]
    return groups, list(getattr(scheduler, "base_lrs", ()))


def _set_settings(optimizer: Any, scheduler: Any, groups: list[dict[str, Any]], rates: list[float]) -> None:
    """Set the settings of an optimizer whose state was loaded; a schedule continues at its place with the rates that are given."""
    for group, settings in zip(optimizer.param_groups, groups, strict=True):
        group.update(settings)
    if not hasattr(
        scheduler, "lr_lambdas"
    ):  # DeepSpeed's, whose settings cannot be changed (r1exp.plan.fork)
        return
    scheduler.base_lrs = list(rates)
    now = [
        rate * factor(scheduler.last_epoch) for rate, factor in zip(rates, scheduler.lr_lambdas, strict=True)
    ]
    for group, rate in zip(optimizer.param_groups, now, strict=True):
        group["lr"] = rate
    scheduler._last_lr = now


def _multiply_beta_powers(optimizer: Any) -> None:
    """Recompute the powers of beta in DeepSpeed 0.19's Adam for CPUs by multiplication, as an uninterrupted run does."""
    while not hasattr(optimizer, "ds_opt_adam"):
        if not hasattr(optimizer, "optimizer"):
            return  # another optimizer
        optimizer = optimizer.optimizer
    (group, *_) = optimizer.param_groups
    nothing = [torch.empty(0) for _ in ("weights", "gradients", "first moments", "second moments")]
    for step in range(1, max((state["step"] for state in optimizer.state.values()), default=0) + 1):
        optimizer.ds_opt_adam.adam_update(
            optimizer.opt_id, step, group["lr"], *group["betas"], group["eps"], group["weight_decay"],
            group["bias_correction"], *nothing,
        )  # fmt: skip


def _with_set_epoch(loader: Any) -> Any:
    """Return the innermost sampler of a loader if it has `set_epoch`, else None."""
    sampler = loader
    while sampler is not None:
        inner = getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)
        if inner is None:
            break
        sampler = inner
    return sampler if hasattr(sampler, "set_epoch") else None
