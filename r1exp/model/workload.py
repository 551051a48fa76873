"""The work of a step on one device, as the memory estimate reads it. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from r1exp.model.settings import ModelShape


@dataclass(frozen=True, slots=True)
class Load:
    """The work of one step on one device."""

    trains: bool  # false: the step only samples
    keeps_reference: bool  # a frozen copy of the policy for the KL
    rows: int  # rows of one forward and backward pass
    tokens: int  # tokens of the longest row, prompt and completion
    logit_tokens: int  # tokens per row whose logits are kept; SFT: all, RL: those of the completion
    sampled_rows: int  # sequences sampled at once; 0: no sampling on this device
    world_size: int = 1  # ranks
    zero_stage: int = 0  # 0: plain data parallelism
    offload: bool = False  # ZeRO keeps the optimizer states in host memory
    # FSDP2 partitions float32 weights, gradients and optimizer states, and gathers bfloat16 weights per layer.
    fsdp: bool = False
    gathers: bool = False  # ZeRO-3 gathers the whole model, to sample from it
    syncs: bool = False  # weights are sent to vLLM one by one, with adapters merged into copies
    accumulates: bool = False  # several passes per optimizer step
    critic: ModelShape | None = None  # PPO's value model; None: no critic, or a head on the policy's trunk
    others: int = 0  # bytes of further frozen models on the device: those of rewards
    device: Literal["cpu", "cuda"] = "cuda"
