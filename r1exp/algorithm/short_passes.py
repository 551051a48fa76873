"""Trims the rows of each forward and backward pass to the longest of them, or sorts rows by length and leaves out all padding.

TRL 1.16 pads the prompts and completions of a whole generation batch to its longest ones, and keeps this padding when it splits
the batch into passes. Masked columns at the left of prompts and at the right of completions add nothing to the loss; without
them matrix products have other shapes, and so may differ in the last digits.

Rows are sorted within an optimizer step, whose gradient is a sum over its passes, and what is left of padding in a pass is left
out by cutting it (`r1exp.algorithm.row_groups`); passes that only score, of the policy and of the reference, are cut from the rows
of the whole generation batch.

TRL logs `kl`, `entropy` and the shares of clipped tokens as a mean over passes of the mean over a pass's tokens. Sorted passes have
few tokens or many, so each pass counts by its tokens: what is logged is the mean over the tokens of an optimizer step.
"""

from typing import Any, Literal

import torch
from accelerate.utils import is_peft_model
from torch import Tensor, nn
from transformers import Trainer
from transformers.integrations import is_deepspeed_zero3_enabled

from r1exp.algorithm.row_groups import RowGroups, cut_rows

_PROMPT = "prompt_"  # start of the names of tensors of prompts
_SHARE = (
    "token_share"  # name of a pass's tokens over those of a mean pass of its optimizer step, on all ranks
)
_EXTREMES = {
    "clip_ratio/low_min",
    "clip_ratio/high_max",
}  # what TRL logs of a pass beside means over its tokens


class ShortPasses(Trainer):
    """A trainer of TRL that samples, with passes of the length that their rows need.

    Args:
        short_passes: Whether to trim, or to sort and cut as well; false: as TRL pads them.
    """

    _buffered_inputs: list[dict[str, Any]]  # attribute of TRL's trainers: the passes of the generation batch
    _metrics: dict[
        str, dict[str, list[float]]
    ]  # attribute of TRL's trainers: what is averaged in the next logged row

    def __init__(self, *args: Any, short_passes: bool | Literal["sorted"] = False, **kwargs: Any) -> None:
        self._trims = bool(short_passes)
        self._sorts = short_passes == "sorted"
        super().__init__(*args, **kwargs)
        self.extend_forward()
        if not self._sorts:
            return
        for model in (self.model, self.ref_model):
            if model is not None:
                inner = self.accelerator.unwrap_model(model)
                inner = inner.get_base_model() if is_peft_model(inner) else inner
                further = self.further_trunks() if model is self.model else []
                cut_rows(inner, self.row_groups(), [inner.base_model, *further])

    def extend_forward(self) -> None:
        """Add to the policy's forward what it has to compute in addition, before its rows are cut."""

    def further_trunks(self) -> list[nn.Module]:
        """Return the trunks of what `extend_forward` has added."""
        return []

    def row_groups(self) -> RowGroups:
        """Return how the rows of a pass are cut."""
        return RowGroups.on(
            self.accelerator.device.type,
            self.args.per_device_train_batch_size,
            are_even=self.is_fsdp_enabled or is_deepspeed_zero3_enabled(),
        )

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        # Passes that only score are cut from all rows; TRL would cut them into passes of neighbors before.
        is_plain = not any(value is not None and value is not False for value in kwargs.values())
        if self._sorts and is_plain and not torch.is_grad_enabled():
            batch_size = None
        return super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, batch_size, **kwargs
        )

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        known = self._buffered_inputs
        inputs: dict[str, Any] = super()._prepare_inputs(generation_batch)
        if self._sorts and self._buffered_inputs is not known:  # a new generation batch, cut into passes
            self._buffered_inputs = self.in_order(self._buffered_inputs)
            inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]
        return trimmed(inputs) if self._trims else inputs

    def in_order(self, passes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the passes of a generation batch as they are trained on."""
        if not self._sorts:
            return passes
        number = min(self.args.gradient_accumulation_steps, self.args.steps_per_generation)
        passes = sorted_by_length(passes, number)
        tokens = torch.stack([(each["completion_mask"] * each.get("tool_mask", 1)).sum() for each in passes])
        shares = shares_of_tokens(self.accelerator.reduce(tokens, reduction="sum"), number)
        return [each | {_SHARE: share} for each, share in zip(passes, shares, strict=True)]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        share = self.token_share(inputs)
        metrics = self._metrics["train" if self.model.training else "eval"]
        known = {name: len(values) for name, values in metrics.items()}
        loss: Tensor = super()._compute_loss(model, inputs)
        for name, values in metrics.items():
            if name not in _EXTREMES and not (self._has_one_ratio_a_row() and "clip_ratio" in name):
                start = known.get(name, 0)
                values[start:] = [value * share for value in values[start:]]
        return loss

    def _has_one_ratio_a_row(self) -> bool:
        """Whether each row has one probability ratio; every pass has as many rows."""
        return self.args.importance_sampling_level == "sequence"

    def token_share(self, inputs: dict[str, Any]) -> float:
        """Return how much a mean over the tokens of a pass counts in the mean over the passes of its optimizer step."""
        return float(inputs.get(_SHARE, 1.0))


def sorted_by_length(passes: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Return the passes of a generation batch with the rows of each optimizer step sorted by their tokens.

    Args:
        passes: Inputs as for `trimmed`, all of the same number of rows.
        number: Passes of an optimizer step, among which rows are exchanged.
    """
    found: list[dict[str, Any]] = []
    for start in range(0, len(passes), number):
        found += _sorted(passes[start : start + number])
    return found


def shares_of_tokens(tokens: Tensor, number: int) -> list[float]:
    """Return the tokens of each pass over those of a mean pass of its optimizer step; 1 where a step has none.

    Args:
        tokens: Of each pass, (passes,).
        number: Passes of an optimizer step.
    """
    tokens_sp = tokens.double().view(-1, number)
    mean_s1 = tokens_sp.mean(dim=1, keepdim=True)
    shares: list[float] = torch.where(mean_s1 > 0, tokens_sp / mean_s1, 1.0).flatten().tolist()
    return shares


def _sorted(passes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lengths = torch.cat(
        [each["prompt_mask"].sum(dim=1) + each["completion_mask"].sum(dim=1) for each in passes]
    )
    return rearranged(passes, torch.argsort(lengths, stable=True))


def rearranged(passes: list[dict[str, Any]], order: Tensor) -> list[dict[str, Any]]:
    """Return passes of the same sizes with the rows of all of them in another order; `order` holds the index of each row."""
    rows = len(order) // len(passes)
    places = order.split(rows)
    return [
        {name: _taken([other[name] for other in passes], place, rows) for name in each}
        for each, place in zip(passes, places, strict=True)
    ]


def _taken(values: list[Any], place: Tensor, rows: int) -> Any:
    """Return the rows at `place` of what several passes have; what is no rows is that of the first."""
    first = values[0]
    if isinstance(first, Tensor) and first.dim() and first.size(0) == rows:
        return torch.cat(values)[place]
    if isinstance(first, list) and len(first) == rows:
        return [values[index // rows][index % rows] for index in place.tolist()]
    return first


def trimmed(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of a pass without the columns that are padding in all of its rows.

    Args:
        inputs: Tensors of prompts (B, P), padded at the left, with names that start with `prompt_`; tensors of completions
            (B, T), padded at the right; others, which are returned as they are. A completion whose mask is zero throughout
            may lose tokens, which are in no loss.
    """
    prompt_bp, completion_bt = inputs["prompt_mask"], inputs["completion_mask"]
    first = _first_column(prompt_bp)
    last = completion_bt.size(1) - _first_column(completion_bt.flip(1))
    return {
        name: _cut(name, value, prompt_bp.shape, completion_bt.shape, first, last)
        for name, value in inputs.items()
    }


def _first_column(mask_bt: Tensor) -> int:
    """Return the first column in which a row has a token; one column stays where none has."""
    used = mask_bt.any(dim=0).nonzero()
    return int(used[0]) if len(used) else mask_bt.size(1) - 1


def _cut(name: str, value: Any, prompts: Any, completions: Any, first: int, last: int) -> Any:
    if not isinstance(value, Tensor) or value.dim() < 2:
        return value
    if name.startswith(_PROMPT):
        return value[:, first:] if value.shape[:2] == prompts else value
    return value[:, :last] if value.shape[:2] == completions else value
