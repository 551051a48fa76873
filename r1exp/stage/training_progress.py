"""Trainer callback that writes the progress of a training step: optimizer steps, and what happens within one.

Within an optimizer step of an online algorithm minutes can pass. The forward passes of the policy show what the trainer
does: without gradients and one token wide it generates, otherwise it computes log-probabilities; with gradients it
computes the loss. Nothing of the trainer is changed.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from r1exp.step.progress import ProgressWriter


class ProgressCallback(TrainerCallback):
    """Writes progress.json.

    Args:
        folder: Folder of the step.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: ProgressWriter | None = None
        self._hook: RemovableHandle | None = None
        self._longest: int | None = None  # tokens of a completion; None of a trainer that samples none
        self._num_tokens = 0  # of the completions that are being generated
        self._num_parts = 0  # forward and backward passes since the last optimizer step
        self._is_between = False  # the forward passes are not those of the training
        self._done = 0.0  # optimizer steps
        self._begun_at = 0  # optimizer steps that the checkpoint had

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start to observe the model."""
        self._writer = ProgressWriter(self._folder, "optimizer steps", state.max_steps)
        self._longest = getattr(args, "max_completion_length", None)
        self._begun_at = state.global_step
        self._show(state.global_step)
        model: nn.Module = kwargs["model"]
        self._hook = model.register_forward_pre_hook(self._on_forward, with_kwargs=True)

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count a forward and backward pass that is not the last of its optimizer step."""
        self._num_parts += 1
        self._show(state.global_step + self._num_parts / args.gradient_accumulation_steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count an optimizer step. The first is written at once: from then on a signal must not end the step unsaved."""
        self._num_parts = self._num_tokens = 0
        self._show(state.global_step, now=state.global_step == self._begun_at + 1)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop observing the model."""
        if self._hook is not None:
            self._hook.remove()
        is_whole = state.global_step >= state.max_steps
        self._show(state.global_step, "saving the model" if is_whole else "ending", now=True)

    def show(self, done: int, doing: str) -> None:
        """Show what the step does between two optimizer steps, until this is called with an empty text."""
        self._is_between = bool(doing)
        self._show(done, doing)

    def _on_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if self._longest is None or ids is None or self._is_between:
            return
        if torch.is_grad_enabled():
            self._show(self._done, "computing the loss")
        elif ids.shape[-1] == 1:  # with a cache each pass adds a token
            self._num_tokens += 1
            self._show(self._done, f"generating, token {self._num_tokens + 1} of at most {self._longest}")
        else:
            self._num_tokens = 0
            self._show(self._done, "computing log-probabilities")

    def _show(self, done: float, doing: str = "", *, now: bool = False) -> None:
        self._done = done
        assert self._writer is not None
        self._writer.move_to(done, doing, now=now)
