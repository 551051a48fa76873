"""Two checks that every trainer of r1exp performs, and that stop a broken training.

* A loss or a gradient that is not finite stops the step before it changes the weights, and the batch that
  caused it is saved. (DeepSpeed runs the optimizer inside the backward pass. There the check comes one
  optimizer step late, but before anything is saved.)
* After the first optimizer step with a learning rate and a gradient above zero, some trainable weight must
  have changed. If none has (a frozen model, an optimizer with other weights, updates that round to zero
  in bfloat16), all later metrics would be those of the initial model.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from r1exp.errors import StepFailed

_SAMPLE = 4096  # elements of each weight that are compared
FOLDER = "offending_batch"  # next to the folder of checkpoints


class Guards(Trainer):
    """Stops on values that are not finite, and on a first optimizer step that changes no weight.

    Written against transformers 5.17.

    Args:
        last_checkpoint: Returns the last complete checkpoint, for the message.
    """

    def __init__(self, *args: Any, last_checkpoint: Callable[[], Path | None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._last_checkpoint = last_checkpoint
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
            if self._anywhere(not torch.isfinite(loss).item()):
                self._stop(f"the loss is {loss.item()} on this rank, and not finite on one of them")
        return result

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        if not self._has_moved and self._before is None:
            self._before = self._weights()
        return super().training_step(*args, **kwargs)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._grad_norm = 0.0 if norm is None else float(norm)
        # In float16 the scaler skips such a step, and training continues. The norm is the same on every rank.
        if self.accelerator.scaler is None and not math.isfinite(self._grad_norm):
            self._stop(f"the norm of the gradient is {self._grad_norm}")
        self._window.clear()
        return norm

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
        for weight in self.model.parameters():
            if weight.requires_grad:
                # Under ZeRO-3, `ds_tensor` is this rank's partition.
                flat = getattr(weight, "ds_tensor", weight).detach().flatten()
                samples.append(flat[:: max(1, flat.numel() // _SAMPLE)].clone())
        return samples

    def _anywhere(self, condition: bool) -> bool:
        """Return whether the condition holds on any rank. A collective operation: every rank must call it."""
        flag = torch.tensor(float(condition), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum").item() > 0.0)

    def _stop(self, trouble: str) -> None:
        """Save the batches since the last optimizer step and raise `StepFailed`; called on every rank."""
        step = self.state.global_step + 1
        file = Path(self.args.output_dir).parent / FOLDER / f"step-{step}-rank-{self.args.process_index}.pt"
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"step": step, "trouble": trouble, "batches": self._window}, file)
        last = self._last_checkpoint()
        good = "there is no checkpoint yet" if last is None else f"the last good checkpoint is {last}"
        raise StepFailed(
            f"at optimizer step {step} {trouble}. The batch is saved in {file} (torch.load reads it); {good}. "
            "Lower learning_rate, or remove the rows that caused it"
        )
