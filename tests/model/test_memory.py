"""Memory estimates: parameter counts equal the published ones, and the parts add up by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from r1exp.model.memory import (
    Load,
    count_lora,
    count_parameters,
    memory_per_device,
    readable,
    shape_from_config,
    shape_of,
)
from r1exp.model.settings import LoraSettings, ModelSettings, ModelShape

ReadModel = Callable[..., ModelSettings]
PUBLISHED = {
    "tiny": 8 * 128 * 64 + 2 * (4 * 128 * 128 + 3 * 128 * 512 + 2 * 128) + 128,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "gemma-2-2b-it": 2_614_341_888,
}
# A toy: 1 layer, hidden 2, 2 heads of size 1, inner 3, vocabulary 5.
TOY = ModelShape(
    hidden_size=2,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    intermediate_size=3,
    vocab_size=5,
    max_position_embeddings=8,
    tie_word_embeddings=True,
)
TOY_PARAMETERS = (4 + 2 + 2 + 4) + 3 * 6 + 2 * 2 + 2 + 10  # q k v o, MLP, norms, last norm, embedding
LOAD = Load(trains=True, keeps_reference=True, rows=3, tokens=4, logit_tokens=2, sampled_rows=6)


def shape_in(read_model: ReadModel, name: str) -> ModelShape:
    shape = read_model(name).shape
    assert shape is not None
    return shape


def on_meta(name: str, shape: ModelShape) -> Any:
    """The library's own model of that shape, without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind = {"tiny": "llama", "gemma-2-2b-it": "gemma2"}.get(name, "qwen2")
    sizes = shape.model_dump(exclude={"qkv_bias", "num_norms_per_layer", "head_dim"})
    config = AutoConfig.for_model(kind, **sizes, head_dim=shape.features_per_head)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parameter_count_is_the_published_one(name: str, read_model: ReadModel) -> None:
    assert count_parameters(shape_in(read_model, name)) == PUBLISHED[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_library_counts_the_same_parameters_and_its_config_gives_the_same_shape(
    name: str, read_model: ReadModel
) -> None:
    shape = shape_in(read_model, name)
    model = on_meta(name, shape)
    assert model.num_parameters() == PUBLISHED[name]
    read = shape_from_config(json.loads(model.config.to_json_string()))
    assert read is not None
    assert count_parameters(read) == PUBLISHED[name]


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj")], ids=["all", "some"])
def test_peft_counts_the_same_adapters(targets: Any, read_model: ReadModel) -> None:
    from peft import get_peft_model

    from r1exp.model.load import peft_config

    settings = read_model("qwen2.5-0.5b", lora={"r": 8, "target_modules": targets})
    assert settings.shape is not None
    adapted = get_peft_model(on_meta("qwen2.5-0.5b", settings.shape), peft_config(settings))
    trained, _ = adapted.get_nb_trainable_parameters()
    assert count_lora(settings.shape, settings.lora) == trained


def test_the_parts_of_a_toy_are_those_worked_out_by_hand(read_model: ReadModel) -> None:
    model = read_model("tiny")
    memory = memory_per_device(TOY, model, LOAD)
    assert memory.weights == memory.gradients == memory.reference == TOY_PARAMETERS * 4
    assert memory.optimizer == TOY_PARAMETERS * 8
    assert (
        memory.kv_cache == 1 * 2 * 1 * 1 * 4 * 6 * 4
    )  # layers, key and value, heads, size, tokens, rows, bytes
    layer = 4 * (6 * 2 + 3 * 2 + 3 * 1 + 4 * 3) + 2 * 4 * 2  # bytes per token
    assert memory.activations == 3 * 4 * layer + 3 * 2 * 5 * 2 * (4 + 4)
    assert memory.total == TOY_PARAMETERS * 20 + memory.activations


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        pytest.param(0, {"weights": 4, "gradients": 4, "optimizer": 8, "reference": 4}, id="ddp"),
        pytest.param(1, {"weights": 4, "gradients": 4, "optimizer": 6, "reference": 4}, id="zero1"),
        pytest.param(2, {"weights": 4, "gradients": 2, "optimizer": 6, "reference": 4}, id="zero2"),
        pytest.param(3, {"weights": 2, "gradients": 2, "optimizer": 6, "reference": 2}, id="zero3"),
    ],
)
def test_zero_shares_out_what_its_stage_says(
    stage: Any, expected: dict[str, int], read_model: ReadModel
) -> None:
    memory = memory_per_device(TOY, read_model("tiny"), replace(LOAD, world_size=2, zero_stage=stage))
    assert {name: getattr(memory, name) for name in expected} == {
        name: size * TOY_PARAMETERS for name, size in expected.items()
    }


def test_adapters_need_no_reference_and_almost_no_optimizer(read_model: ReadModel) -> None:
    memory = memory_per_device(TOY, read_model("tiny", lora={"r": 1}), LOAD)
    adapted = (2 + 2) + 2 * (1 + 2) + (2 + 2) + 2 * (3 + 2) + (2 + 3)  # q, k and v, o, gate and up, down
    assert count_lora(TOY, LoraSettings(r=1)) == adapted
    assert (memory.reference, memory.optimizer) == (0, adapted * 8)
    assert memory.weights == TOY_PARAMETERS * 4 + adapted * 4


def test_measuring_holds_weights_and_cache_only(read_model: ReadModel) -> None:
    memory = memory_per_device(TOY, read_model("tiny"), replace(LOAD, trains=False))
    assert memory.total == TOY_PARAMETERS * 4 + memory.kv_cache


def test_mixed_precision_halves_activations_and_copies_the_weights(read_model: ReadModel) -> None:
    full = memory_per_device(TOY, read_model("tiny"), LOAD).activations
    mixed = memory_per_device(TOY, read_model("tiny", compute_dtype="bfloat16"), LOAD).activations
    norms, logits = 3 * 4 * 2 * 4 * 2, 3 * 2 * 5 * 2 * 4  # float32 in both
    assert mixed == (full - norms - logits) // 2 + norms + logits + TOY_PARAMETERS * 2


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"model_type": "mixtral", "num_local_experts": 8}, id="mixture of experts"),
        pytest.param({"model_type": "t5", "is_encoder_decoder": True}, id="encoder and decoder"),
        pytest.param({"model_type": "mamba", "hidden_size": 8}, id="no attention"),
    ],
)
def test_an_architecture_that_is_not_covered_has_no_shape(config: dict[str, Any]) -> None:
    assert shape_from_config(config) is None


def test_a_folder_is_believed_before_the_settings(tiny_folder: Path, read_model: ReadModel) -> None:
    tiny = shape_in(read_model, "tiny")
    qwen = read_model("qwen2.5-0.5b", path=str(tiny_folder))
    found = shape_of(qwen)
    assert found is not None
    assert count_parameters(found) == count_parameters(tiny)
    assert shape_of(read_model("hf", path="someone/never-downloaded")) is None
    assert shape_of(read_model("tiny")) == tiny


def test_bytes_are_written_for_a_person() -> None:
    assert [readable(size) for size in (999, 1500, 2_000_000, 7_930_000_000)] == [
        "999 B",
        "1.5 kB",
        "2.0 MB",
        "7.9 GB",
    ]
