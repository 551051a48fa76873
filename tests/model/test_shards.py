"""Tests of what FSDP2 needs beside accelerate. Each starts one rank on a CPU, in a process of its own."""

import os
import subprocess
import sys

import pytest

ONE_RANK = {
    "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0",
    "ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "OMP_NUM_THREADS": "1",
}  # fmt: skip
STATE = """
from accelerate import Accelerator
from r1exp.model.shards import shard_on_cpus
{first}
accelerator = Accelerator(cpu=True)
print("found", accelerator.distributed_type.value, accelerator.is_fsdp2, accelerator.device.type)
"""
SAMPLES = """
import torch
from torch import nn
from accelerate import Accelerator
from r1exp.model.shards import gathered, is_sharded, local_part, shard_on_cpus, whole_weights
shard_on_cpus()
accelerator = Accelerator(cpu=True)
model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
plain = {name: weight.clone() for name, weight in model.state_dict().items()}
model, _ = accelerator.prepare(model, torch.optim.SGD(model.parameters()))
shards = [type(weight).__name__ for weight in model.parameters()]
with gathered(model):
    inside = [type(weight).__name__ for weight in model.parameters()]
    model(torch.ones(1, 4))
    after_a_pass = [type(weight).__name__ for weight in model.parameters()]
again = [type(weight).__name__ for weight in model.parameters()]
assert is_sharded(model) and set(shards) == set(again) == {"DTensor"}, (shards, again)
assert set(inside) == set(after_a_pass) == {"Parameter"}, (inside, after_a_pass)
assert all(type(local_part(weight)) is torch.Tensor for weight in model.parameters())
whole = whole_weights(model, torch.bfloat16, keep=True)
assert all(torch.equal(whole[name], weight.bfloat16()) for name, weight in plain.items())
assert whole_weights(model, torch.bfloat16, keep=False) == {}
print("found all")
"""


def output(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **ONE_RANK}, capture_output=True, text=True, timeout=300
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return next(line for line in done.stdout.splitlines() if line.startswith("found"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "expected"),
    [
        # Where this one fails, accelerate has learnt it, and r1exp.model.shards.shard_on_cpus can go.
        pytest.param("", "found MULTI_CPU False cpu", id="accelerate alone"),
        pytest.param("shard_on_cpus()", "found FSDP True cpu", id="with the ranks named like those on GPUs"),
    ],
)
def test_accelerate_uses_fsdp_on_cpus(first: str, expected: str) -> None:
    assert output(STATE.format(first=first)) == expected


@pytest.mark.slow
def test_a_rank_samples_with_whole_weights_and_has_its_shards_again_afterwards() -> None:
    assert output(SAMPLES) == "found all"
