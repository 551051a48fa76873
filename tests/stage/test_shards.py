"""Tests of FSDP2 with two ranks on a CPU in bfloat16: what a rank holds is what is estimated, and vLLM gets whole weights."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.files import write_text
from r1exp.model.memory import memory_per_device
from r1exp.model.shapes import shape_of
from r1exp.model.tiny import build_tiny
from r1exp.model.workload import Load
from r1exp.plan.steps import planned_steps
from r1exp.stage.step import Step

SCRIPT = Path(__file__).with_name("shards_script.py")
OVERRIDES = [
    "stage=rl", "algorithm=ppo", "launcher=fsdp2", "launcher.num_processes=2", "launcher.device=cpu", "beta=0.01",
    "launcher.threads_per_process=1", "tracking=none", "health=off", "evaluation.before=false", "evaluation.after=false",
    "max_steps=1", "max_completion_length=8", "algorithm.prompts_per_step=4", "num_generations=2", "dataset.num_train=12",
    "algorithm.minibatches=1", "model.rows_per_device.rl=2", "model.compute_dtype=bfloat16", "++trainer.save_strategy=no",
]  # fmt: skip


@pytest.mark.slow
def test_two_ranks_hold_what_is_estimated_and_stream_whole_weights(tmp_path: Path) -> None:
    with session():
        (planned,) = planned_steps(experiment_from(OVERRIDES))
    model = planned.config.model
    policy = build_tiny(model, tmp_path / "policy")
    folder = tmp_path / "step"
    Step(
        name=planned.name, index=1, run_id="run", run_name="run", key=planned.key, data=planned.data, config=planned.config,
        device="cpu", world_size=2, trainer_args=planned.trainer_args, model_path=str(policy),
    ).write(folder)  # fmt: skip
    launch = planned.config.launcher.launch(folder)
    for file, text in launch.files.items():
        write_text(folder / file, text)
    arguments = [*launch.arguments[:-3], str(SCRIPT), str(folder)]
    done = subprocess.run(
        arguments, env={**os.environ, **launch.environment}, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shape = shape_of(model)
    assert shape is not None
    load = Load(True, True, 1, 8, 8, 0, world_size=2, fsdp=True, critic=shape, device="cpu")
    memory = memory_per_device(shape, model, load)
    for rank in (0, 1):
        found = json.loads((folder / f"rank-{rank}.json").read_text())
        assert found["policy"]["dtypes"] == found["reference"]["dtypes"] == ["torch.float32"]
        critic = memory.critic // 3  # its weights, beside two moments
        assert found["policy"]["bytes"] == pytest.approx(memory.weights + critic, rel=0.02)
        assert found["reference"]["bytes"] == pytest.approx(memory.reference, rel=0.02)
        assert found["moments"] == pytest.approx(memory.optimizer + 2 * critic, rel=0.02)
        assert found["reference_parts"] == shape.num_hidden_layers + 1
        assert found["sent"] > 0
        assert found["equal"]
