"""What trainers need under FSDP2 (`launcher=fsdp2`) beside accelerate 1.15, transformers 5.17 and TRL 1.16.

* Log-probabilities and losses stay in float32: accelerate's policy for bf16 rounds every output of the model to bfloat16.
* Gradients are reduced in float32, and after every pass. transformers would let each rank keep whole gradients in bfloat16
  until the last pass of an optimizer step, P of them, which is what FSDP2 is to avoid.
* The reference is partitioned layer by layer, as accelerate does it with the policy; TRL partitions it as one, and so gathers all of
  it for a pass.
* The policy samples with whole weights, as TRL does it under ZeRO-3. transformers lets ranks with short completions wait for the
  others with FSDP1 only: with FSDP2 they would wait for ever.
"""

from dataclasses import replace
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import Trainer
from trl.trainer import dpo_trainer, grpo_trainer, rloo_trainer

from r1exp.model.shards import gathered


class Sharded(Trainer):
    """A trainer whose model FSDP2 may hold; under another launcher it changes nothing."""

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if not self.is_fsdp_enabled:
            return
        self.accelerator.gradient_state.plugin_kwargs["sync_each_batch"] = True
        plugin = self.accelerator.state.fsdp_plugin
        if plugin.mixed_precision_policy is not None:
            plugin.mixed_precision_policy = replace(
                plugin.mixed_precision_policy, reduce_dtype=torch.float32, output_dtype=None
            )


class WholeSampling(Sharded):
    """GRPO or RLOO of TRL 1.16 that samples in this process with whole weights; vLLM has its own."""

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        if self.use_vllm:
            return super()._generate_single_turn(*args, **kwargs)
        with gathered(self.model):
            return super()._generate_single_turn(*args, **kwargs)


def _layer_by_layer(theirs: Any) -> Any:
    """Return TRL's `prepare_fsdp`, which partitions a reference as one, after its layers are partitioned."""

    @wraps(theirs)
    def prepare(model: nn.Module, accelerator: Any) -> Any:
        plugin = accelerator.state.fsdp_plugin
        names = getattr(model, "_no_split_modules", None) or ()
        for part in [part for part in model.modules() if type(part).__name__ in names]:
            fully_shard(
                part,
                reshard_after_forward=plugin.reshard_after_forward,
                mp_policy=plugin.mixed_precision_policy or MixedPrecisionPolicy(),
            )
        return theirs(model, accelerator)

    return prepare


for _module in (dpo_trainer, grpo_trainer, rloo_trainer):
    _module.prepare_fsdp = _layer_by_layer(_module.prepare_fsdp)
