"""Loads whole models, and reads the trained weights in full, where DeepSpeed holds partitions of them.

Once the arguments of a trainer exist, `from_pretrained` of transformers 5.17 cuts every model among the ranks if they name ZeRO-3.
That is right for what DeepSpeed trains or wraps, and wrong for a model that one rank uses alone.

DeepSpeed 0.19 computes with weights of the compute dtype and updates masters of float32. What a step saves are the masters, in
`model.dtype`, as without DeepSpeed. Runs in workers: imports torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers.integrations import deepspeed as integration


@contextmanager
def not_partitioned() -> Iterator[None]:
    """Return a context in which `from_pretrained` loads a whole model on this rank, also under ZeRO-3."""
    held = integration._hf_deepspeed_config_weak_ref  # there is no public way to read it (transformers 5.17)
    integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        integration._hf_deepspeed_config_weak_ref = held


def masters(model: nn.Module, dtype: torch.dtype, *, keep: bool) -> dict[str, Tensor]:
    """Return the trainable weights and the buffers of a model that DeepSpeed trains, whole. A collective operation.

    The weights are those of the optimizer, the masters, which are not rounded to the compute dtype.

    Args:
        model: The model inside DeepSpeed's engine.
        dtype: Data type of the weights.
        keep: Whether this rank needs them; the others return nothing, and hold one weight at a time.
    """
    from deepspeed.utils import safe_get_full_fp32_param  # an optional extra

    found = {}
    if keep:
        saved = model.state_dict()  # has no buffers that are computed anew
        found = {name: buffer.cpu() for name, buffer in model.named_buffers() if name in saved}
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        whole = safe_get_full_fp32_param(weight)
        if keep:
            found[name] = whole.detach().to("cpu", dtype).view(_shape(weight)).clone()
    return found


@contextmanager
def whole(model: nn.Module | None) -> Iterator[None]:
    """Return a context in which this rank holds every weight of a model, also under ZeRO-3. A collective operation."""
    if model is None or not integration.is_deepspeed_zero3_enabled():
        yield
        return
    import deepspeed  # an optional extra

    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        yield


def _shape(weight: Tensor) -> torch.Size:
    return getattr(weight, "ds_shape", weight.shape)  # that of a partitioned weight is (0,)
