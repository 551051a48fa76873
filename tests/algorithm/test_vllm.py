"""Tests that a real vLLM engine in this process receives the policy's weights, for every algorithm that samples.

The gap is that of r1exp.algorithm.sampler. The learning rate of 1e-2 changes the policy's weights a lot, so that an
engine that misses an optimizer step has a large gap: see `test_an_engine_without_weight_updates_has_a_large_gap`.
"""

import json
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from peft import LoraConfig
from trl import RLOOConfig

from r1exp.algorithm.dynamic_sampling import DynamicSampling
from r1exp.algorithm.kl_controller import KlController, KlSettings
from r1exp.algorithm.sampler import GAP
from r1exp.algorithm.trainers import Rloo
from r1exp.model.settings import ModelSettings
from r1exp.model.tiny import build_tiny

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed; type: make vllm"),
]
LIVE = 0.005  # nats per token; issue 5
LORA = LoraConfig(
    r=4, lora_alpha=64, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
)
FIXED = KlSettings(target=None, rate=0.1, limit=0.2)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the tiny model with heads of 32 features, because vLLM's attention on a CPU does not support 16."""
    values = OmegaConf.to_container(
        OmegaConf.load(Path(__file__).parents[2] / "conf" / "model" / "tiny.yaml")
    )
    assert isinstance(values, dict)
    values["shape"] |= {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    values["shape"] |= {"intermediate_size": 64}
    settings = ModelSettings.model_validate_json(json.dumps(values))
    return build_tiny(settings, tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Any:
    """Start one engine for all tests, because starting it takes most of a minute."""
    from r1exp.rollout import vllm
    from r1exp.rollout.settings import VllmColocate

    settings = VllmColocate(
        kind="vllm_colocate", gpu_memory_utilization=0.3, max_model_length=None, tensor_parallel_size=1,
        enforce_eager=True, cpu_kvcache_gib=1, importance_correction=None, sleep=False,
    )  # fmt: skip
    policy = ModelSettings.model_construct(compute_dtype="float32", revision=None)  # type: ignore[call-arg]  # all that the engine reads of it
    return vllm._engine(
        settings, policy, "cpu", 1, seed=0, model=str(tiny), max_model_len=128, max_num_seqs=16,
        distributed_executor_backend="external_launcher", logprobs_mode="processed_logprobs",
    )  # fmt: skip


@pytest.fixture
def arguments(engine: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Yield arguments that make a trainer use the engine."""
    from trl.generation import vllm_generation

    monkeypatch.setattr(vllm_generation, "LLM", lambda **theirs: engine)
    environment = dict(os.environ)  # TRL sets RANK and similar variables
    yield {"use_vllm": True, "vllm_mode": "colocate", "max_steps": 4}
    os.environ.clear()
    os.environ.update(environment)


def gaps(trainer: Any) -> list[float]:
    trainer.train()
    return [row[GAP] for row in trainer.state.log_history if GAP in row]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="grpo"),
        pytest.param({"loss_type": "dapo", "beta": 0.01, "epsilon_high": 0.28}, id="dapo with a reference"),
        pytest.param({"importance_sampling_level": "sequence"}, id="gspo"),
        pytest.param({"vllm_importance_sampling_correction": False}, id="without the correction"),
        pytest.param({"lora": LORA}, id="LoRA"),
        pytest.param({"trainer": DynamicSampling, "extra": {"max_rounds": 1}}, id="dynamic sampling"),
    ],
)
def test_vllm_has_the_weights_of_grpo(
    grpo: Callable[..., Any], arguments: dict[str, Any], changes: dict[str, Any]
) -> None:
    found = gaps(grpo(**arguments, **changes))
    assert len(found) == 4
    assert max(found) < LIVE


@pytest.mark.parametrize("lora", [None, LORA], ids=["whole", "LoRA"])
@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_vllm_has_the_weights_of_ppo_without_the_critic(
    ppo: Callable[..., Any], arguments: dict[str, Any], critic: str, lora: LoraConfig | None
) -> None:
    trainer = ppo(critic, lora=lora, **arguments)
    found = gaps(trainer)
    assert found
    assert max(found) < LIVE
    pushed = {name for name, _ in trainer.vllm_generation._iter_named_params()}
    assert pushed
    assert not [name for name in pushed if "critic" in name]


def test_vllm_has_the_merged_weights_of_adapters_whose_bfloat16_base_never_changes(
    grpo: Callable[..., Any], arguments: dict[str, Any], engine: Any
) -> None:
    trainer = grpo(lora=LORA, **arguments)
    weights = dict(trainer.model.named_parameters())
    base = {name: weight for name, weight in weights.items() if "lora_" not in name}
    for weight in base.values():
        weight.data = weight.data.to(torch.bfloat16)
    before = {name: weight.clone() for name, weight in base.items()}
    trainer.train()
    for _ in range(10):
        trainer.vllm_generation.sync_weights()
    assert all(torch.equal(weight, before[name]) for name, weight in base.items())
    model = engine.llm_engine.model_executor.driver_worker.model_runner.model
    theirs = dict(model.named_parameters())["model.layers.0.self_attn.qkv_proj.weight"]
    merged = []
    for name in ("q_proj", "k_proj", "v_proj"):
        layer = trainer.model.get_submodule(f"base_model.model.model.layers.0.self_attn.{name}")
        a, b = (side["default"].weight for side in (layer.lora_A, layer.lora_B))
        scaled = LORA.lora_alpha / LORA.r * (b @ a)
        merged.append((layer.base_layer.weight.float() + scaled).to(torch.bfloat16).float())
    assert torch.equal(theirs, torch.cat(merged))


def test_vllm_has_the_weights_of_rloo(
    grpo: Callable[..., Any], arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rloo(*, args: Any, **common: Any) -> Rloo:
        known = {name: getattr(args, name) for name in ("output_dir", "max_steps", "learning_rate", "beta")}
        config = RLOOConfig(
            **known, per_device_train_batch_size=8, num_generations=2, max_completion_length=6, bf16=False, use_cpu=True,
            report_to="none", logging_steps=1, disable_tqdm=True, save_strategy="no", remove_unused_columns=False,
            use_vllm=True, vllm_mode="colocate",
        )  # fmt: skip
        return Rloo(args=config, **common)

    found = gaps(grpo(trainer=rloo, **arguments))
    assert len(found) == 4
    assert max(found) < LIVE


def test_an_engine_without_weight_updates_has_a_large_gap(
    grpo: Callable[..., Any], arguments: dict[str, Any]
) -> None:
    trainer = grpo(**(arguments | {"max_steps": 8}))
    trainer.vllm_generation.sync_weights = lambda: None
    found = gaps(trainer)
    assert found[-1] > 0.05
    assert found[-1] > 10 * LIVE


def test_beta_is_constant_without_a_kl_target(grpo: Callable[..., Any], arguments: dict[str, Any]) -> None:
    trainer = grpo(beta=0.02, **arguments)
    gaps(trainer)
    assert isinstance(trainer.kl, KlController)
    assert trainer.kl.beta == 0.02
