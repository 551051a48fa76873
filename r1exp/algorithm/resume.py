"""How does an interrupted run, resumed, end with the weights of one that was not? Bit for bit, on a CPU.

transformers restores weights, optimizer, scheduler and random states, and skips the batches already
seen. What it and TRL 1.16 do not restore, this does:

* which epoch it is: TRL's sampler draws its n-th permutation where the n-th epoch begins, so a resumed
  run would repeat epoch 0; accelerate 1.15 tells the epoch to no sampler that it wraps twice
  (a resumed epoch on several ranks);
* completions in the middle of their use (several updates on one generation), which would be drawn anew;
* what a trainer of ours keeps besides: the KL controller, the stream of further prompts;
* tensors saved on the device `cpu:0`, which several CPU ranks save and torch 2.13 will not load;
* the powers of beta that DeepSpeed's Adam for CPUs (offload) multiplies up, and after a resume begins
  with pow(), an ulp away.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from trl.trainer.utils import RepeatSampler

_CPU_PRIORITY = 5  # before torch's own for `cpu`, which knows no index


def _load_on_cpu(storage: Any, location: str) -> Any:
    return storage if location.startswith("cpu:") else None


torch.serialization.register_package(_CPU_PRIORITY, lambda storage: None, _load_on_cpu)


class EpochRepeatSampler(RepeatSampler):
    """TRL's sampler, whose permutation depends on the seed and the epoch alone.

    The n-th epoch has the n-th permutation of the generator, as in an uninterrupted run of TRL.
    """

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass draws."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed)
            for _ in range(self.epoch):
                torch.randperm(self.num_samples, generator=self.generator)
        return super().__iter__()


class ExactResume(Trainer):
    """Saves and restores what the libraries leave out. Written against transformers 5.17, TRL 1.16."""

    def resume_state(self) -> dict[str, Any]:
        """Return what this trainer keeps besides its libraries, as plain JSON values."""
        return {}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Take back what `resume_state` returned."""
        del state

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # Before the loader is wrapped once more to skip what was seen: the sampler inside stays the same.
        sampler = _with_set_epoch(kwargs["train_dataloader"])
        if sampler is not None:
            sampler.set_epoch(kwargs["epoch"])
        super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        torch.save(self._remembered(), self._memory(self._checkpoint_folder()))
        self.accelerator.wait_for_everyone()  # the mark `complete` comes next, from rank 0

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # The last thing loaded before the first batch, in every mode of training.
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        remembered = self._recall(Path(checkpoint))
        if hasattr(self, "_buffered_inputs"):
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
            self._buffered_inputs = remembered["buffer"]
        self.restore_state(remembered["state"])
        _multiply_beta_powers(self.optimizer)

    def _checkpoint_folder(self) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"

    def _memory(self, checkpoint: Path) -> Path:
        """Return the file of this rank. The number of ranks is part of its name: slices do not fit another."""
        return checkpoint / f"memory-{self.args.process_index}-of-{self.args.world_size}.pt"

    def _recall(self, checkpoint: Path) -> dict[str, Any]:
        """Read what this rank wrote; after a change of ranks, what all had in common."""
        own = self._memory(checkpoint)
        if own.exists():
            return dict(torch.load(own, map_location=self.args.device, weights_only=True))
        other = min(checkpoint.glob("memory-0-of-*.pt"))
        warnings.warn(
            f"{checkpoint} was written by {other.stem.rpartition('-')[2]} ranks and is read by "
            f"{self.args.world_size}: the run goes on, but not bit for bit as it would have",
            stacklevel=2,
        )
        return {**torch.load(other, map_location=self.args.device, weights_only=True), "buffer": None}

    def _remembered(self) -> dict[str, Any]:
        remembered: dict[str, Any] = {"state": self.resume_state()}
        if hasattr(self, "_buffered_inputs"):  # trainers that sample
            every = self.args.steps_per_generation * self.num_iterations
            remembered["buffer"] = self._buffered_inputs if self._step % every else None
        return remembered


class RepeatedPrompts(ExactResume):
    """For trainers whose batches repeat each prompt: TRL's GRPO and RLOO."""

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


def _multiply_beta_powers(optimizer: Any) -> None:
    """Let DeepSpeed 0.19's Adam for CPUs arrive at its powers of beta by the multiplications of an uninterrupted run."""
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
    """Return the sampler at the core of a loader, where it can be told the epoch."""
    sampler = loader
    while sampler is not None:
        inner = getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)
        if inner is None:
            break
        sampler = inner
    return sampler if hasattr(sampler, "set_epoch") else None
