"""An installed library that a step does not use is not imported by its workers."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

SCRIPT = """
import sys
from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.stage.unused_libraries import leave_out_unused

with session():
    config = experiment_from(sys.argv[1:]).steps[0].config
leave_out_unused(config)

import torch
from accelerate import Accelerator
from trl import GRPOTrainer

Accelerator(cpu=True).unwrap_model(torch.nn.Linear(1, 1))
print(*sorted({"vllm", "deepspeed", "wandb", "trackio"} & set(sys.modules)))
"""


def loaded(*overrides: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *overrides], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides", [("stage=rl",), ("stage=sft", "rollout=vllm_colocate")], ids=["rl with hf", "sft"]
)
def test_libraries_that_a_step_does_not_use_are_not_imported(
    overrides: tuple[str, ...],
) -> None:
    assert loaded(*overrides) == []


@pytest.mark.integration
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed; type: make vllm")
def test_vllm_is_imported_by_a_step_that_uses_it() -> None:
    assert loaded("stage=rl", "rollout=vllm_colocate") == ["vllm"]
