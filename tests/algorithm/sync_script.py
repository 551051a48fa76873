"""Checks on this rank of FSDP2 that the weights for vLLM are those of a merged copy: `torchrun ... sync_script.py`."""

import copy
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from r1exp.algorithm.weight_sync import merged_copies
from r1exp.model.shards import shard_on_cpus, start_alike
from r1exp.stage.run_stage import leave_ranks

SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 63,
    "vocab_size": 65,
}  # fmt: skip  # odd sizes: the shards of two ranks differ


def main() -> None:
    shard_on_cpus()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    torch.manual_seed(accelerator.process_index)  # as TRL seeds the ranks
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SHAPE), dtype=torch.bfloat16)
    torch.manual_seed(0)
    for weight in base.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    torch.manual_seed(accelerator.process_index)
    model: Any = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    start_alike(model, accelerator.device)
    expected = dict(copy.deepcopy(model).merge_and_unload().named_parameters())
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    model, _ = accelerator.prepare(model, torch.optim.SGD(trained))
    with torch.no_grad():  # leaves the weights of the last part gathered
        model(torch.ones(1, 4, dtype=torch.long))
    generation: Any = SimpleNamespace(
        model=model,
        _fix_param_name_to_vllm=lambda name, extra_prefixes=(): name,
        _dist=SimpleNamespace(gather_params=lambda weights: nullcontext()),
    )
    sent = dict(merged_copies(generation))
    assert sent.keys() == expected.keys()
    everywhere = accelerator.gather(torch.cat([sent[name].flatten() for name in expected]).unsqueeze(0))
    assert torch.equal(everywhere[0], everywhere[1])  # the ranks started alike
    assert all(torch.equal(sent[name], weight) for name, weight in expected.items())
    sys.stdout.write("equal\n")


if __name__ == "__main__":
    main()
    leave_ranks()
