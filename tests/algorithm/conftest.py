"""A very small policy, sums to train on, and a function that builds any trainer of ours on them."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from omegaconf import OmegaConf
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from trl import GRPOConfig

from r1exp.algorithm.base import TRACKED_ZERO
from r1exp.algorithm.critic import separate_critic, shared_critic
from r1exp.algorithm.kl_controller import KlController, KlSettings
from r1exp.algorithm.ppo_trainer import Ppo, PpoConfig, PpoOptions
from r1exp.algorithm.trainers import Grpo
from r1exp.model.settings import ModelSettings
from r1exp.model.tiny import build_tiny
from r1exp.prompt.chat import CHAT_TEMPLATE

FIXED = KlSettings(target=None, rate=0.1, limit=0.2)
PPO = {
    "gamma": 1.0, "lam": 0.95, "value_coefficient": 0.5, "value_clip": 0.2, "whiten_advantages": True,
    "critic_learning_rate": 1e-2,
}  # fmt: skip
CONF = Path(__file__).parents[2] / "conf" / "model" / "tiny.yaml"
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 30,000 weights and its tokenizer."""
    values = OmegaConf.to_container(OmegaConf.load(CONF))
    assert isinstance(values, dict)
    values["shape"] |= SMALL
    settings = ModelSettings.model_validate_json(json.dumps(values))
    return build_tiny(settings, tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tokenizer(tiny: Path) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = tokenizer.chat_template or CHAT_TEMPLATE
    return tokenizer


def rows(number: int = 12) -> Dataset:
    """Prompts that differ, in the form that TRL reads."""
    return Dataset.from_list(
        [
            {"prompt": [{"role": "user", "content": f"What is {n} + {n + 1}?"}], "id": str(n)}
            for n in range(number)
        ]
    )


def evenness(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """A reward that differs inside a group: the share of even tokens, less a little for length."""
    return [sum(token % 2 == 0 for token in ids) / len(ids) - 0.01 * len(ids) for ids in completion_ids]


def arguments(folder: Path, **changes: Any) -> dict[str, Any]:
    """What any GRPOConfig of these tests is given: 4 prompts with 2 completions a step, in float32 on the CPU."""
    return {
        "output_dir": str(folder / "checkpoints"), "max_steps": 3, "learning_rate": 1e-2, "beta": 0.0,
        "per_device_train_batch_size": 8, "num_generations": 2, "max_completion_length": 6, "temperature": 1.0,
        "bf16": False, "use_cpu": True, "report_to": "none", "logging_steps": 1, "disable_tqdm": True,
        "lr_scheduler_type": "constant", "loss_type": "grpo", "gradient_checkpointing": False, "seed": 1,
        "remove_unused_columns": False, "logging_nan_inf_filter": False, "save_strategy": "no",
    } | changes  # fmt: skip


@pytest.fixture
def grpo(tiny: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Callable[..., Grpo]:
    """A function that builds a GRPO trainer on a fresh policy; `changes` are for its arguments."""

    def build(
        reward: Callable[..., Any] = evenness,
        kl: KlSettings = FIXED,
        trainer: Any = Grpo,
        lora: LoraConfig | None = None,
        extra: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Grpo:
        given = arguments(tmp_path, **changes)
        return trainer(
            model=AutoModelForCausalLM.from_pretrained(tiny), reward_funcs=reward, args=GRPOConfig(**given),
            train_dataset=rows(), processing_class=tokenizer, peft_config=lora,
            good_checkpoint=lambda most: None, kl=KlController(kl, given["beta"]), **(extra or {}),
        )  # fmt: skip

    return build


@pytest.fixture
def ppo(tiny: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Callable[..., Ppo]:
    """A function that builds a PPO trainer with a `separate`, `shared` or `zero` critic."""

    def build(
        critic: str = "separate",
        reward: Callable[..., Any] = evenness,
        kl: KlController | None = None,
        lora: LoraConfig | None = None,
        options: dict[str, Any] | None = None,
        num_prompts: int = 12,
        start: Path | None = None,
        short_passes: bool | str = "sorted",
        sampled_logps: bool = True,
        trainer: Any = Ppo,
        **changes: Any,
    ) -> Ppo:
        critics = {
            "separate": lambda policy: separate_critic(
                str(start or tiny), None, tokenizer, policy.dtype, lora=deepcopy(lora)
            ),
            "shared": lambda policy: shared_critic(policy, None if start is None else str(start)),
            "zero": None,
        }
        plain = {
            "loss_type": "dapo",
            "beta": TRACKED_ZERO,
            "steps_per_generation": 2,
            "per_device_train_batch_size": 4,
        }
        return trainer(
            short_passes=short_passes, sampled_logps=sampled_logps,
            model=AutoModelForCausalLM.from_pretrained(tiny), reward_funcs=reward,
            args=PpoConfig(**arguments(tmp_path, **{**plain, **changes})), train_dataset=rows(num_prompts),
            processing_class=tokenizer, peft_config=deepcopy(lora), good_checkpoint=lambda most: None,
            kl=kl or KlController(FIXED, 0.05), critic=critics[critic],
            options=PpoOptions(**{**PPO, **(options or {})}),
        )  # fmt: skip

    return build


@pytest.fixture(scope="session")
def weights() -> Callable[[torch.nn.Module], torch.Tensor]:
    """A function that puts every trainable weight of a model in one vector."""

    def flat(model: torch.nn.Module) -> torch.Tensor:
        return torch.cat([weight.detach().flatten() for weight in model.parameters() if weight.requires_grad])

    return flat
