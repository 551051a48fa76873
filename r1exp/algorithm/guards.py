"""Two checks that every trainer of r1exp performs, and that stop a broken training.

* A loss or a gradient that is not finite stops the step before it changes the weights, and the batch that
  caused it is saved. (DeepSpeed runs the optimizer inside the backward pass. There the check comes one
  optimizer step late, but before anything is saved.)
* After the first optimizer step with a learning rate and a gradient above zero, some trainable weight must
  have changed. If none has (a frozen model, an optimizer with other weights, updates that round to zero
  in bfloat16), all later metrics would be those of the initial model.

The message of the first names the last good checkpoint. Its weights are sound, finite and not 10 times as large as at the start of
the step, and it was saved before the trouble began (`r1exp.algorithm.steadiness`).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import Trainer

from r1exp.algorithm.steadiness import Steadiness
from r1exp.errors import NotFinite, StepFailed
from r1exp.model.shards import local_part, plain, shard_again

_GROWTH = 10.0  # root mean square of the weights, as a multiple of that at the start, above which they are not sound
_SAMPLE = 4096  # elements of each weight that are compared
FOLDER = "offending_batch"  # next to the folder of checkpoints


class Guards(Trainer):
    """Stops on values that are not finite, and on a first optimizer step that changes no weight.

    Written against transformers 5.17.

    Args:
        good_checkpoint: Returns the newest checkpoint with sound weights after at most so many optimizer steps (None: any
            number), for the message.
    """

    judges_loss: ClassVar[bool] = True  # whether the loss is above 0 and falls while the model learns

    def __init__(
        self, *args: Any, good_checkpoint: Callable[[int | None], Path | None], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._good_checkpoint = good_checkpoint
        self.steadiness = Steadiness()
        self._loss = 0.0  # of the optimizer step, summed over its batches and all ranks
        self._size_at_start: float | None = None  # root mean square of the weights
        self._window: list[Any] = []  # batches since the last optimizer step
        # Samples of the weights before the step, until one of them has changed.
        self._before: list[Tensor] | None = None
        self._has_moved = False
        self._grad_norm = 0.0

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().compute_loss(model, inputs, *args, **kwargs)
        if self.model.training:
            self._window.append(inputs)
            loss = result[0] if isinstance(result, tuple) else result
            # All ranks must stop together, or the others would wait for this one.
            value = float(loss.item())
            num_broken, total = self._summed(float(not math.isfinite(value)), value)
            self._loss += total
            if num_broken:
                self._stop(f"the loss is {loss.item()} on this rank, and not finite on one of them")
        return result

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        if self._size_at_start is None:
            self._size_at_start = self._size()
        if not self._has_moved and self._before is None:
            self._before = self._weights()
        return super().training_step(*args, **kwargs)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        norm = plain(norm) if isinstance(norm, Tensor) else norm
        self._grad_norm = 0.0 if norm is None else float(norm)
        # In float16 the scaler skips such a step, and training continues. The norm is the same on every rank.
        if self.accelerator.scaler is None and not math.isfinite(self._grad_norm):
            self._stop(f"the norm of the gradient is {self._grad_norm}")
        values = {"grad_norm": self._grad_norm} | ({"loss": self._loss} if self.judges_loss else {})
        self.steadiness.observe(self.state.global_step + 1, values)
        self._loss = 0.0
        self._window.clear()
        return norm

    def save_beside(self, weights: dict[str, Tensor], folder: Path) -> None:
        """Save what the artifact holds in addition to the policy, in its folder: nothing.

        Args:
            weights: The whole state dict of the model, gathered from all ranks.
            folder: Of the artifact, while it is being written.
        """
        del weights, folder

    def adapt_kl(self, target: float) -> str:
        """Return that nothing was done: a trainer with a KL controller overrides this."""
        del target
        return "this step has no KL controller"

    def is_sound(self) -> bool:
        """Return whether the weights are finite and have about the size of the start. A collective operation."""
        size = self._size()
        return math.isfinite(size) and (not self._size_at_start or size <= _GROWTH * self._size_at_start)

    def resume_state(self) -> dict[str, Any]:
        own = {"steadiness": self.steadiness.state(), "size_at_start": self._size_at_start}
        return {**super().resume_state(), **own}

    def restore_state(self, state: dict[str, Any]) -> None:
        super().restore_state(state)
        self.steadiness.restore(state["steadiness"])
        self._size_at_start = state["size_at_start"]

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        # transformers calls this first after an optimizer step, before anything is saved.
        if self._before is not None:
            self._check_weights_changed(self._before, kwargs["learning_rate"])
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _check_weights_changed(self, before: list[Tensor], learning_rate: float | None) -> None:
        self._before = None
        if not learning_rate or self._grad_norm == 0.0:
            return  # no change is expected; check the next optimizer step
        moved = any(not torch.equal(old, new) for old, new in zip(before, self._weights(), strict=True))
        self._has_moved = self._anywhere(moved)
        if not self._has_moved:
            raise StepFailed(
                f"the first optimizer step (learning rate {learning_rate:g}, gradient norm {self._grad_norm:.3g}) changed "
                "no trainable weight: either the optimizer has other weights, or the update is too small for the "
                "weights' precision; raise learning_rate, or use model.dtype=float32"
            )

    def _weights(self) -> list[Tensor]:
        """Return a sample of the elements of every trainable weight, or of this rank's partition of it."""
        samples = []
        shard_again(self.model)
        for weight in self.model.parameters():
            if weight.requires_grad:
                flat = local_part(weight).detach().flatten()
                samples.append(flat[:: max(1, flat.numel() // _SAMPLE)].clone())
        return samples

    def _size(self) -> float:
        """Return the root mean square of the trainable weights, from a sample. A collective operation."""
        samples = [sample.float() for sample in self._weights()]
        squares = sum(float(sample.square().sum()) for sample in samples)
        total, number = self._summed(squares, float(sum(sample.numel() for sample in samples)))
        return math.sqrt(total / number) if number else 0.0

    def _anywhere(self, condition: bool) -> bool:
        """Return whether the condition holds on any rank. A collective operation: every rank must call it."""
        return self._summed(float(condition))[0] > 0.0

    def _summed(self, *values: float) -> list[float]:
        """Return the sum of each value over all ranks. A collective operation: every rank must call it."""
        together = torch.tensor(values, device=self.accelerator.device)
        summed: list[float] = self.accelerator.reduce(together, reduction="sum").tolist()
        return summed

    def _stop(self, trouble: str) -> None:
        """Save the batches since the last optimizer step and raise `StepFailed`; called on every rank."""
        step = self.state.global_step + 1
        file = Path(self.args.output_dir).parent / FOLDER / f"step-{step}-rank-{self.args.process_index}.pt"
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"step": step, "trouble": trouble, "batches": self._window}, file)
        self.steadiness.observe(step, {"loss": math.nan})
        good = self._good_checkpoint(self.steadiness.last_good)
        named = "there is no good checkpoint" if good is None else f"the last good checkpoint is {good}"
        since = self.steadiness.since
        began = "" if since in (None, step) else f" (the trouble began at optimizer step {since})"
        raise NotFinite(
            f"at optimizer step {step} {trouble}{began}. The batch is saved in {file} (torch.load reads it); {named}. "
            "Lower learning_rate, or remove the rows that caused it",
            good,
        )
