"""Tests that vLLM is sent the merged weights of a bfloat16 policy, and that its base weights never change."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from trl.distributed import DistributedBackend
from trl.generation.vllm_generation import VLLMGeneration

from r1exp.algorithm.weight_sync import merged_copies
from r1exp.launcher.base import free_port, loopback, loopback_interface

LORA = LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
NUM_SYNCS = 20


@pytest.fixture
def generation(tiny: Path) -> VLLMGeneration:
    """What sends the weights of a policy whose adapters are not zero; its engine is not needed for that."""
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16), LORA)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    bare = VLLMGeneration.__new__(VLLMGeneration)
    bare.model, bare._dist = model, DistributedBackend(Accelerator(cpu=True))
    return bare


def base_weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.named_parameters() if "lora_" not in name}


def share_changed(before: dict[str, torch.Tensor], model: Any) -> float:
    after = base_weights(model)
    changed = sum(int((before[name] != after[name]).sum()) for name in before)
    return changed / sum(weight.numel() for weight in before.values())


def test_base_weights_are_bit_for_bit_the_same_after_many_syncs(generation: VLLMGeneration) -> None:
    before = base_weights(generation.model)
    for _ in range(NUM_SYNCS):
        list(merged_copies(generation))
    assert share_changed(before, generation.model) == 0.0


def test_the_method_that_is_replaced_changes_base_weights(generation: VLLMGeneration) -> None:
    before = base_weights(generation.model)
    for _ in range(NUM_SYNCS):
        list(generation._iter_named_params())
    assert share_changed(before, generation.model) > 0.01


def test_what_is_sent_is_the_base_plus_the_scaled_adapters(generation: VLLMGeneration) -> None:
    model = generation.model
    weights = dict(model.named_parameters())
    sent = dict(merged_copies(generation))
    layer = "model.layers.0.self_attn.q_proj"
    stem = f"base_model.model.{layer}"
    a, b = (weights[f"{stem}.lora_{side}.default.weight"].float() for side in "AB")
    expected = weights[f"{stem}.base_layer.weight"].float() + 32 / 4 * (b @ a)
    assert torch.equal(sent[f"{layer}.weight"], expected.to(torch.bfloat16))
    names = {name for name, _ in AutoModelForCausalLM.from_pretrained(model.name_or_path).named_parameters()}
    assert sent.keys() == names
    assert torch.equal(
        sent["model.embed_tokens.weight"], weights["base_model.model.model.embed_tokens.weight"]
    )


class Server:
    """Keeps what a vLLM server would be sent."""

    def update_named_params(self, announced: list[Any], weights: Iterator[tuple[str, torch.Tensor]]) -> None:
        self.announced = announced
        self.received = [(name, weight.clone()) for name, weight in weights]

    def reset_prefix_cache(self) -> None:
        """Do nothing: there is no cache."""


def test_a_server_is_sent_the_weights_that_it_was_told_of(generation: VLLMGeneration) -> None:
    before = base_weights(generation.model)
    generation.mode, generation.enable_sleep_mode, generation._weight_metadata = "server", False, None
    generation.accelerator, generation.vllm_client = Accelerator(cpu=True), Server()
    generation._iter_named_params = partial(merged_copies, generation)
    generation.sync_weights()
    server = generation.vllm_client
    sent = [
        (name, str(weight.dtype).removeprefix("torch."), list(weight.shape))
        for name, weight in server.received
    ]
    assert sent == server.announced
    assert share_changed(before, generation.model) == 0.0


@pytest.mark.slow
def test_two_ranks_of_fsdp2_send_whole_weights_with_their_adapters_merged() -> None:
    interface = loopback_interface()
    environment = {"ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "OMP_NUM_THREADS": "1",
                   "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", **({} if interface is None else {"GLOO_SOCKET_IFNAME": interface})}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port(loopback())),
         str(Path(__file__).with_name("sync_script.py"))],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("equal") == 2
