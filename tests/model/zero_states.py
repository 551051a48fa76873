"""Trains a small model with DeepSpeed in bfloat16 and prints the bytes of all live tensors of rank 0, as JSON.

    python -m torch.distributed.run --nproc_per_node 2 -m tests.model.zero_states STAGE

Tensors of half a gigabyte and more are DeepSpeed's bucket, which is counted by itself.
"""

import gc
import json
import sys

import deepspeed
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.model.zero_shape import SHAPE

LARGE = 500_000_000  # bytes


def live_bytes() -> tuple[int, int]:
    """Return the bytes of the tensors that are alive, and of the buckets among them."""
    gc.collect()
    storages: dict[int, int] = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor):
            for tensor in (thing, thing.grad if thing.is_leaf else None):
                if tensor is not None and tensor.device.type == "cpu":
                    storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    buckets = sum(size for size in storages.values() if size >= LARGE)
    return sum(storages.values()) - buckets, buckets


def main(stage: int) -> None:
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SHAPE), dtype=torch.float32)
    engine, optimizer, _, _ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True),
        config={
            "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 2, "bf16": {"enabled": True},
            "zero_allow_untested_optimizer": True, "gradient_clipping": 1.0, "zero_optimization": {"stage": stage},
        },
    )  # fmt: skip
    found = {"start": live_bytes()}
    own_step = optimizer.optimizer.step

    def step(*arguments: object, **named: object) -> object:
        found["update"] = live_bytes()
        return own_step(*arguments, **named)

    optimizer.optimizer.step = step
    ids = torch.randint(0, 1024, (1, 8))
    for number in range(4):  # the optimizer has its moments from the second update on
        loss = engine(input_ids=ids, labels=ids).loss
        engine.backward(loss)
        del loss
        if number == 2:
            found["backward"] = live_bytes()
        engine.step()
    if torch.distributed.get_rank() == 0:
        sys.stdout.write(json.dumps(found) + "\n")
    torch.distributed.destroy_process_group()  # else a thread of it may abort the process at its end


if __name__ == "__main__":
    main(int(sys.argv[1]))
