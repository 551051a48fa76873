"""Tests that methods of TRL and transformers that r1exp overrides or relies on have not changed.

A failure names the method. Read what changed upstream, adapt the override as its module's docstring
explains, and write the new hash here. The hashes are those of TRL 1.16.0 and transformers 5.17.0.
"""

import hashlib
import inspect
from dataclasses import is_dataclass
from typing import Any

import pytest
from accelerate.state import AcceleratorState
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from transformers import Trainer
from trl import DistillationTrainer, GRPOTrainer, KTOTrainer, RLOOTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.models.utils import prepare_fsdp
from trl.trainer.utils import RepeatSampler, add_fused_lm_head

from r1exp.algorithm import (
    distil_trainer,
    dynamic_sampling,
    kto_trainer,
    ppo_trainer,
    resume,
    simpo_trainer,
    trainers,
)

OURS = [
    trainers.Sft, trainers.Dpo, trainers.RewardModelling, trainers.Grpo, trainers.Rloo,
    dynamic_sampling.DynamicSampling, ppo_trainer.Ppo, ppo_trainer.PpoConfig, resume.EpochRepeatSampler,
    kto_trainer.Kto, simpo_trainer.Simpo, distil_trainer.Distil,
]  # fmt: skip

# Not overridden, but an override relies on how they work.
RELIED_ON = [
    GRPOTrainer._prepare_inputs,  # the buffer that a checkpoint keeps
    RLOOTrainer._prepare_inputs,
    DistillationTrainer._prepare_inputs,
    DistillationTrainer._compute_loss,  # calls backbones past the `forward` that accelerate has wrapped in autocast
    KTOTrainer._compute_loss,  # the answers that are paired with the prompt of another row
    Trainer._inner_training_loop,  # the order of loading, skipping and stepping
    Trainer._prepare_for_training,
    Trainer._init_training_state,
    Trainer._save_checkpoint,  # `save_total_limit`, which r1exp.stage.training takes over
    RepeatSampler.__init__,
    add_fused_lm_head,  # the forward that the critic's forward wraps
    VLLMGeneration._iter_named_params,  # replaced for adapters (r1exp.algorithm.weight_sync), and without the critic
    VLLMGeneration._init_vllm,  # the engine that r1exp.rollout.vllm builds instead
    VLLMGeneration.sync_weights,  # how the engine receives weights
    VLLMGeneration._iter_fsdp2_params,  # needs shards, not gathered weights
    AcceleratorState.__init__,  # FSDP for ranks of the type MULTI_GPU only (r1exp.model.shards.shard_on_cpus)
    fsdp2_prepare_model,  # cuts what each rank has, layer by layer
    prepare_fsdp,  # cuts a reference as one
    VLLMGeneration.generate,  # the result that SamplerLogprobs reads
]

KNOWN: dict[str, str] = {
    "accelerate.state.AcceleratorState.__init__": "e5c18cb49fc9",
    "accelerate.utils.fsdp_utils.fsdp2_prepare_model": "8a4cb9db8310",
    "transformers.trainer.Trainer._clip_grad_norm": "ebfa9dc91d30",
    "transformers.trainer.Trainer._get_grad_norm": "913ba6f52f07",
    "transformers.trainer.Trainer._get_train_sampler": "1580d7493244",
    "transformers.trainer.Trainer._init_training_state": "8fbd17ebb7d3",
    "transformers.trainer.Trainer._inner_training_loop": "59b69168df65",
    "transformers.trainer.Trainer._load_from_checkpoint": "4711d0506786",
    "transformers.trainer.Trainer._load_rng_state": "d5ebdfc0a088",
    "transformers.trainer.Trainer._load_optimizer_and_scheduler": "bdcb956f06c4",
    "transformers.trainer.Trainer._maybe_log_save_evaluate": "af101534f0f7",
    "transformers.trainer.Trainer._prepare_for_training": "0a4d89b3fdfd",
    "transformers.trainer.Trainer._run_epoch": "ebe374933064",
    "transformers.trainer.Trainer._save": "bf720120f407",
    "transformers.trainer.Trainer._save_checkpoint": "a9111e30faa9",
    "transformers.trainer.Trainer._save_optimizer_and_scheduler": "c5ef974db69a",
    "transformers.trainer.Trainer.autocast_smart_context_manager": "0475f690559e",
    "transformers.trainer.Trainer.create_accelerator_and_postprocess": "2dfccd378503",
    "transformers.trainer.Trainer.create_optimizer": "daff86cde6cc",
    "trl.generation.vllm_generation.VLLMGeneration._init_vllm": "0e584002e0f6",
    "trl.generation.vllm_generation.VLLMGeneration._iter_fsdp2_params": "6d41acd02236",
    "trl.generation.vllm_generation.VLLMGeneration._iter_named_params": "baab615d5c7b",
    "trl.generation.vllm_generation.VLLMGeneration.generate": "2d2ac2be5b13",
    "trl.generation.vllm_generation.VLLMGeneration.sync_weights": "63d669fb3230",
    "trl.models.utils.prepare_fsdp": "80d48284544e",
    "trl.trainer.distillation_trainer.DistillationTrainer.__init__": "b5a0ad1b1031",
    "trl.trainer.distillation_trainer.DistillationTrainer._compute_loss": "9fc0021cbcc0",
    "trl.trainer.distillation_trainer.DistillationTrainer._get_train_sampler": "f3a856a8af02",
    "trl.trainer.distillation_trainer.DistillationTrainer._prepare_inputs": "a0b5e05b3647",
    "trl.trainer.distillation_trainer.DistillationTrainer._save_checkpoint": "b6ee0a370c26",
    "trl.trainer.distillation_trainer.DistillationTrainer.compute_loss": "e5082879a718",
    "trl.trainer.distillation_trainer.DistillationTrainer.training_step": "9e18632f7dd8",
    "trl.trainer.dpo_trainer.DPOTrainer.__init__": "632f447c71dc",
    "trl.trainer.dpo_trainer.DPOTrainer._compute_loss": "5e58a1699e0d",
    "trl.trainer.dpo_trainer.DPOTrainer._precompute_ref_logps": "f2c098c7da6c",
    "trl.trainer.dpo_trainer.DPOTrainer._save_checkpoint": "b6ee0a370c26",
    "trl.trainer.dpo_trainer.DPOTrainer.compute_loss": "c453890e84be",
    "trl.trainer.dpo_trainer.DPOTrainer.training_step": "bba41f264647",
    "trl.trainer.grpo_config.GRPOConfig.__post_init__": "e833cd8d6b46",
    "trl.trainer.grpo_trainer.GRPOTrainer.__init__": "18f01b7a46c9",
    "trl.trainer.grpo_trainer.GRPOTrainer._calculate_rewards": "736ae29b0838",
    "trl.trainer.grpo_trainer.GRPOTrainer._compute_loss": "80295546bbdb",
    "trl.trainer.grpo_trainer.GRPOTrainer._generate_and_score_completions": "1fa48922792d",
    "trl.trainer.grpo_trainer.GRPOTrainer._generate_single_turn": "e0f02e4fc094",
    "trl.trainer.grpo_trainer.GRPOTrainer._get_per_token_logps_and_entropies": "ea73c3909275",
    "trl.trainer.grpo_trainer.GRPOTrainer._get_train_sampler": "36497afb4d31",
    "trl.trainer.grpo_trainer.GRPOTrainer._load_optimizer_and_scheduler": "5c1772becdfd",
    "trl.trainer.grpo_trainer.GRPOTrainer._prepare_inputs": "f824e7fb0714",
    "trl.trainer.grpo_trainer.GRPOTrainer._save_checkpoint": "ec91bde12364",
    "trl.trainer.grpo_trainer.GRPOTrainer.compute_loss": "a2d6ef8bd29c",
    "trl.trainer.grpo_trainer.GRPOTrainer.training_step": "9e18632f7dd8",
    "trl.trainer.kto_trainer.KTOTrainer.__init__": "df42c2c259c9",
    "trl.trainer.kto_trainer.KTOTrainer._compute_loss": "70e5262bf7b4",
    "trl.trainer.kto_trainer.KTOTrainer._get_train_sampler": "06d3dd1dbbf3",
    "trl.trainer.kto_trainer.KTOTrainer._prepare_dataset": "d22cf45470e6",
    "trl.trainer.kto_trainer.KTOTrainer._save_checkpoint": "b6ee0a370c26",
    "trl.trainer.kto_trainer.KTOTrainer.compute_loss": "c453890e84be",
    "trl.trainer.kto_trainer.KTOTrainer.log": "e80e122cfe5f",
    "trl.trainer.kto_trainer.KTOTrainer.training_step": "bba41f264647",
    "trl.trainer.reward_trainer.RewardTrainer.__init__": "e30bea5e95aa",
    "trl.trainer.reward_trainer.RewardTrainer._save_checkpoint": "b6ee0a370c26",
    "trl.trainer.reward_trainer.RewardTrainer.compute_loss": "ec4fad890ecf",
    "trl.trainer.reward_trainer.RewardTrainer.training_step": "bba41f264647",
    "trl.trainer.rloo_trainer.RLOOTrainer.__init__": "127fcebf344f",
    "trl.trainer.rloo_trainer.RLOOTrainer._calculate_rewards": "81ef76d93756",
    "trl.trainer.rloo_trainer.RLOOTrainer._compute_loss": "c1f9fa0cd5a6",
    "trl.trainer.rloo_trainer.RLOOTrainer._generate_and_score_completions": "93ebbf5e70d3",
    "trl.trainer.rloo_trainer.RLOOTrainer._generate_single_turn": "c68ae4ca477d",
    "trl.trainer.rloo_trainer.RLOOTrainer._get_per_token_logps_and_entropies": "ea73c3909275",
    "trl.trainer.rloo_trainer.RLOOTrainer._get_train_sampler": "36497afb4d31",
    "trl.trainer.rloo_trainer.RLOOTrainer._prepare_inputs": "f824e7fb0714",
    "trl.trainer.rloo_trainer.RLOOTrainer._save_checkpoint": "b6ee0a370c26",
    "trl.trainer.rloo_trainer.RLOOTrainer.compute_loss": "3fc1ac07b5c4",
    "trl.trainer.rloo_trainer.RLOOTrainer.training_step": "9e18632f7dd8",
    "trl.trainer.sft_trainer.SFTTrainer.__init__": "90b61e42b690",
    "trl.trainer.sft_trainer.SFTTrainer._prepare_dataset": "04b668d28493",
    "trl.trainer.sft_trainer.SFTTrainer._save_checkpoint": "b6ee0a370c26",
    "trl.trainer.sft_trainer.SFTTrainer.compute_loss": "ca448211ff65",
    "trl.trainer.sft_trainer.SFTTrainer.training_step": "bba41f264647",
    "trl.trainer.utils.RepeatSampler.__init__": "7898b11a3b9e",
    "trl.trainer.utils.RepeatSampler.__iter__": "d80412d80424",
    "trl.trainer.utils.add_fused_lm_head": "422d009f04b6",
}


def overridden(cls: type) -> dict[str, Any]:
    """Return name -> upstream method for every upstream method that a class of r1exp overrides."""
    found = {}
    for position, owner in enumerate(cls.__mro__):
        if not owner.__module__.startswith("r1exp."):
            continue
        written = [name for name, value in vars(owner).items() if inspect.isfunction(value)]
        for name in written if not is_dataclass(owner) else ["__post_init__"]:  # the rest is generated
            for upstream in cls.__mro__[position + 1 :]:
                if upstream.__module__.startswith(("trl.", "transformers.")) and name in vars(upstream):
                    method = inspect.unwrap(vars(upstream)[name])
                    found[f"{upstream.__module__}.{upstream.__qualname__}.{name}"] = method
                    break
    return found


def hash_of(method: Any) -> str:
    return hashlib.sha256(inspect.getsource(inspect.unwrap(method)).encode()).hexdigest()[:12]


METHODS: dict[str, Any] = {name: method for cls in OURS for name, method in overridden(cls).items()}
METHODS |= {f"{method.__module__}.{method.__qualname__}": method for method in RELIED_ON}


def test_every_method_is_known_and_no_known_one_is_gone() -> None:
    assert METHODS.keys() == KNOWN.keys()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_upstream_has_not_changed(name: str) -> None:
    assert hash_of(METHODS[name]) == KNOWN.get(name), (
        f"{name} changed upstream: read it, then check the override in r1exp"
    )
