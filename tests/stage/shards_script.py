"""Trains a step of PPO under `launcher=fsdp2` and writes what this rank held and would send to vLLM: FOLDER/rank-N.json.

As the weights before the first optimizer step are made: the bytes of this rank's shards of the policy, the critic and the
reference, and their dtypes. After the last: the bytes of the moments, whether a stream of weights for vLLM has those of the
artifact, and whether a reference is cut layer by layer.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import PartialState

from r1exp.algorithm.critic import NAME
from r1exp.algorithm.weight_sync import from_shards
from r1exp.model.load import load_tokenizer
from r1exp.model.shards import local_part, whole_weights
from r1exp.stage.run_stage import join_ranks, leave_ranks
from r1exp.stage.step import read_step
from r1exp.stage.unused_libraries import leave_out_unused


def held(model: Any) -> dict[str, Any]:
    """Return the bytes of this rank's part of the weights, and their dtypes."""
    parts = [local_part(weight) for weight in model.parameters()]
    return {
        "bytes": sum(part.numel() * part.element_size() for part in parts),
        "dtypes": sorted({str(part.dtype) for part in parts}),
    }


def main(folder: Path) -> None:
    """Do the work of one rank."""
    step = read_step(folder)
    leave_out_unused(step.config)
    join_ranks(step)
    from torch.distributed.fsdp import FSDPModule
    from transformers import TrainerCallback
    from trl.generation.vllm_generation import VLLMGeneration

    from r1exp.stage.train_rl import trainer_of

    found: dict[str, Any] = {}

    class Look(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if "policy" not in found:
                found["policy"] = held(trainer.model)
                found["reference"] = held(trainer.ref_model)
                found["reference_parts"] = sum(
                    isinstance(part, FSDPModule) for part in trainer.ref_model.modules()
                )

    tokenizer = load_tokenizer(step.model_path, step.config.model)
    trainer: Any = trainer_of(step, folder / "checkpoints", tokenizer, [Look()], lambda most: None)
    trainer.train()
    moments = [value for state in trainer.optimizer.state.values() for value in state.values()]
    found["moments"] = sum(local_part(value).numel() * value.element_size() for value in moments)
    with torch.no_grad():  # leaves gathered weights of the last part, with which TRL's own stream fails
        trainer.model(torch.ones(1, 4, dtype=torch.long))
    generation: Any = SimpleNamespace(
        model=trainer.model, accelerator=trainer.accelerator, _dist=trainer._dist,
        _fix_param_name_to_vllm=lambda name, extra_prefixes=(): name,
    )  # fmt: skip
    theirs = VLLMGeneration._iter_fsdp2_params.__get__(generation)
    sent = {
        name: weight
        for name, weight in from_shards(generation, lambda: theirs(trainer.model))
        if not name.startswith(NAME)
    }
    whole = whole_weights(trainer.model, torch.float32, keep=True)
    found["sent"] = len(sent)
    found["equal"] = all(torch.equal(weight, whole[name]) for name, weight in sent.items())
    (folder / f"rank-{PartialState().process_index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_ranks()
