"""Trims the rows of each forward and backward pass to the longest of them.

TRL 1.16 pads the prompts and completions of a whole generation batch to its longest ones, and keeps this padding when it splits
the batch into passes. Masked columns at the left of prompts and at the right of completions add nothing to the loss; without
them matrix products have other shapes, and so may differ in the last digits.
"""

from typing import Any

from torch import Tensor
from transformers import Trainer

_PROMPT = "prompt_"  # start of the names of tensors of prompts


class ShortPasses(Trainer):
    """A trainer of TRL that samples, with passes of the length that their rows need.

    Args:
        short_passes: Whether to trim; false: as TRL pads them.
    """

    def __init__(self, *args: Any, short_passes: bool = False, **kwargs: Any) -> None:
        self._trims = short_passes
        super().__init__(*args, **kwargs)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        inputs: dict[str, Any] = super()._prepare_inputs(generation_batch)
        return trimmed(inputs) if self._trims else inputs


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
