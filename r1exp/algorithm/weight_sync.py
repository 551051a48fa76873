"""Sends vLLM the weights of a policy with LoRA adapters without changing those of its base model.

    sent = base + scaling * B A        in float32, rounded to the dtype of `base`

peft rounds the product to the adapters' dtype before it is added: float32, but bfloat16 where DeepSpeed computes in bfloat16.

TRL 1.16 adds the adapters to the base weights in place, sends these, and subtracts the adapters again. In bfloat16 neither sum
is exact: the base weights drift with every optimizer step (trl#6688), and with them the reference, which is the model without
adapters. Under ZeRO-3 TRL also holds the whole model on every rank meanwhile. Here each weight is gathered, copied, sent and freed by
itself, in the process (rollout=vllm_colocate) and to a server alike. Generation with rollout=hf uses the adapters as they are.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from accelerate.utils import is_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import Trainer
from trl.generation.vllm_generation import VLLMGeneration

from r1exp.model.shards import plain as whole
from r1exp.model.shards import shard_again

_LAYER = ".base_layer.weight"


class UntouchedBase(Trainer):
    """GRPO or RLOO of TRL 1.16 whose adapters are merged into copies for vLLM."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.use_vllm:
            return
        # Replaces VLLMGeneration._iter_named_params, which sync_weights iterates in both modes.
        if is_peft_model(self.model):
            self.vllm_generation._iter_named_params = partial(merged_copies, self.vllm_generation)
        elif self.is_fsdp_enabled:
            self.vllm_generation._iter_named_params = partial(
                from_shards, self.vllm_generation, self.vllm_generation._iter_named_params
            )


def from_shards(generation: VLLMGeneration, theirs: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield what TRL yields under FSDP2; TRL fails where a pass without a backward pass has left gathered weights.

    A collective operation: every rank must iterate to the end.
    """
    shard_again(generation.model)
    yield from theirs()


def merged_copies(generation: VLLMGeneration) -> Iterator[tuple[str, Tensor]]:
    """Yield the name in vLLM and the merged weight of every parameter of the base model.

    A collective operation under ZeRO-3 and FSDP2: every rank must iterate to the end.
    """
    model = generation.model
    shard_again(model)
    for name, weight in model.named_parameters():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        if model.prefix in plain or "original_module" in plain:
            continue  # an adapter, or a layer that another replaces
        plain = generation._fix_param_name_to_vllm(plain, extra_prefixes=["modules_to_save.default."])
        layer = model.get_submodule(name.removesuffix(_LAYER)) if name.endswith(_LAYER) else None
        adapters = [] if layer is None else [part for part in layer.parameters() if part is not weight]
        with generation._dist.gather_params([weight, *adapters]):
            yield plain, whole(weight.data) if layer is None else _merged(layer, weight)


@torch.no_grad()
def _merged(layer: LoraLayer, weight: Tensor) -> Tensor:
    """Return a copy of the base weight with the active adapters of its layer added."""
    total = whole(weight.data).float()
    for adapter in layer.active_adapters:
        total = total + whole(layer.get_delta_weight(adapter)).float()
    return total.to(weight.dtype)
