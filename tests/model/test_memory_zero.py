"""The estimate of what ZeRO keeps is what DeepSpeed holds on two ranks, and is near DeepSpeed's own estimate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1exp.launcher.base import free_port, loopback, loopback_interface
from r1exp.launcher.extensions import is_compiled
from r1exp.model.memory import Memory, memory_per_device
from r1exp.model.settings import LearningRates, ModelSettings, ModelShape, RowsPerDevice
from r1exp.model.shapes import count_parameters, num_embeddings
from r1exp.model.workload import Load
from tests.model.zero_shape import SHAPE

ROOT = Path(__file__).parents[2]
MODEL = ModelSettings(
    kind="pretrained", path="any", dtype="float32", compute_dtype="bfloat16", attn_implementation="sdpa",
    learning_rate=LearningRates(sft=1.0, rl=1.0), rows_per_device=RowsPerDevice(sft=1, rl=1),
)  # fmt: skip


def estimate(shape: ModelShape, stage: int, world_size: int) -> Memory:
    load = Load(
        True, False, rows=1, tokens=8, logit_tokens=8, sampled_rows=0, world_size=world_size, zero_stage=stage,
        accumulates=True,
    )  # fmt: skip
    return memory_per_device(shape, MODEL, load)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_holds_what_is_estimated(stage: int) -> None:
    pytest.importorskip("deepspeed")
    if not is_compiled():
        pytest.skip("DeepSpeed's extension is not compiled here: python -m r1exp.launcher.extensions")
    interface = loopback_interface()
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port(loopback())),
         "-m", "tests.model.zero_states", str(stage)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
             **({} if interface is None else {"GLOO_SOCKET_IFNAME": interface})},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    memory = estimate(ModelShape(**SHAPE), stage, 2)
    held = memory.weights + memory.optimizer
    masters = memory.optimizer * 4 // 12  # of 12 bytes, the moments come with the first update
    assert found["start"][0] == pytest.approx(
        memory.weights + masters + (memory.gradients if stage == 3 else 0), rel=0.02
    )
    assert found["backward"][0] == pytest.approx(held + memory.gradients, rel=0.02)
    if stage == 3:  # ZeRO-2 has freed it by now
        assert found["backward"][1] == memory.bucket
    flat = memory.update * 2 // 6  # and the 2-byte gradients are freed by now, except with ZeRO-3
    kept = memory.gradients if stage == 3 else 0
    assert found["update"][0] == pytest.approx(held + kept + memory.update - flat, rel=0.02)
    assert (found["update"][1] > 0) is memory.keeps_bucket


@pytest.mark.slow
def test_the_states_are_near_deepspeeds_own_estimate() -> None:
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    seven = ModelShape(
        hidden_size=3584, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4, intermediate_size=18944,
        vocab_size=152064, max_position_embeddings=32768, tie_word_embeddings=False, qkv_bias=True,
    )  # fmt: skip
    number = count_parameters(seven)
    two, three = (estimate(seven, stage, 8) for stage in (2, 3))
    flat = two.update * 2 // 6  # which DeepSpeed leaves out
    _, theirs = estimate_zero2_model_states_mem_needs(number, num_gpus_per_node=8, cpu_offload=False)
    ours = two.weights + two.optimizer + two.gradients + two.update - flat
    assert ours == pytest.approx(theirs, rel=0.01)
    _, theirs, largest = estimate_zero3_model_states_mem_needs(
        number, num_embeddings(seven), num_gpus_per_node=8, cpu_offload=False, cpu_offload_params=False
    )
    ours = (
        three.weights + three.optimizer + three.update - flat
    )  # without the gradients, which DeepSpeed leaves out
    assert ours == pytest.approx(theirs - largest, rel=0.01)
