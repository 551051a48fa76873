"""Tests of memory estimates: parameter counts equal the published ones, parts equal hand-computed numbers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from r1exp.model.memory import memory_per_device, readable
from r1exp.model.settings import LoraSettings, ModelSettings, ModelShape
from r1exp.model.shapes import count_lora, count_parameters, positions_of, shape_from_config, shape_of
from r1exp.model.workload import Load

ReadModel = Callable[..., ModelSettings]
PUBLISHED = {
    "tiny": 8 * 128 * 64 + 2 * (4 * 128 * 128 + 3 * 128 * 512 + 2 * 128) + 128,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "gemma-2-2b-it": 2_614_341_888,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "smollm3-3b": 3_075_098_624,
    "gemma-3-1b": 999_885_952,
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
    """Return transformers' model of that shape on the meta device, without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    families = {
        "gemma-2": "gemma2",
        "gemma-3": "gemma3_text",
        "qwen3": "qwen3",
        "smollm3": "smollm3",
        "qwen2": "qwen2",
    }
    kind = next((kind for start, kind in families.items() if name.startswith(start)), "llama")
    sizes = shape.model_dump(exclude={"qkv_bias", "num_norms_per_layer", "head_dim", "qk_norm"})
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


def test_the_parts_of_a_toy_equal_hand_computed_numbers(read_model: ReadModel) -> None:
    memory = memory_per_device(TOY, read_model("tiny"), LOAD)
    assert memory.weights == memory.gradients == memory.reference == TOY_PARAMETERS * 4
    assert memory.optimizer == TOY_PARAMETERS * 8
    layer = 4 * 6 * 1 * (4 + 4)  # tokens, rows, one key head of size 1, a key and a value
    per_query_head = 2 * 4 * 6 * 2 * 4
    logits = 3 * 6 * 5 * 4  # three copies of rows * vocabulary * bytes
    assert memory.sampling == layer + (layer + per_query_head) + logits
    # Bytes per token.
    mask = 4 * 4  # a number for each token that is attended to
    norms, inputs, attention, mlp = 2 * 2 * (4 + 4), 2 * 2 * 4, 4 * 2 * 4 + 2 * 4 + mask, 4 * 3 * 4
    last_norm = 2 * (4 + 4 + 4)
    tile, head = 6 * 32768 * 4, 6 * 2 * (4 + 4) + 5 * 2 * 4  # 3 rows with 2 tokens whose logits are needed
    assert memory.activations == 12 * (norms + inputs + attention + mlp + last_norm) + tile + head
    assert memory.last_layers == 5 * 2 * 4
    assert memory.total == TOY_PARAMETERS * 16 + memory.activations + memory.context


def test_gradients_add_to_activations_only_with_gradient_accumulation(read_model: ReadModel) -> None:
    once = memory_per_device(TOY, read_model("tiny"), LOAD)
    summed = memory_per_device(TOY, read_model("tiny"), replace(LOAD, accumulates=True))
    assert summed.total - once.total == TOY_PARAMETERS * 4


def test_a_critic_adds_weights_moments_gradients_and_activations(read_model: ReadModel) -> None:
    plain = memory_per_device(TOY, read_model("tiny"), LOAD)
    memory = memory_per_device(TOY, read_model("tiny"), replace(LOAD, critic=TOY))
    valued = TOY_PARAMETERS + 2 + 1  # with a head: weights and bias
    assert memory.critic == valued * 4 * 3
    assert memory.gradients - plain.gradients == valued * 4
    # The backward pass of the critic is finished before that of the output matrix; its gradients remain.
    assert memory.activations - plain.activations == valued * 4


def test_with_adapters_a_critic_trains_its_own_and_its_head(read_model: ReadModel) -> None:
    memory = memory_per_device(TOY, read_model("tiny", lora={"r": 1}), replace(LOAD, critic=TOY))
    adapted = count_lora(TOY, LoraSettings(r=1))
    assert memory.critic == (TOY_PARAMETERS + 3) * 4 + (adapted + 3) * 8
    assert memory.gradients == (adapted + adapted + 3) * 4


def test_on_a_cpu_tiles_have_float32_copies_and_every_position_has_logits(read_model: ReadModel) -> None:
    cuda = memory_per_device(TOY, read_model("tiny"), LOAD).activations
    cpu = memory_per_device(TOY, read_model("tiny"), replace(LOAD, device="cpu")).activations
    more = 3 * 3 - 6  # positions
    assert cpu - cuda == more * 32768 * 4 + int(7.25 * 9 * 5 * 4) + more * 2 * 8


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        # With DDP the gradients count twice: gradients and buckets.
        pytest.param(0, {"weights": 4, "gradients": 8, "optimizer": 8, "reference": 4}, id="ddp"),
        pytest.param(1, {"weights": 4, "gradients": 4, "optimizer": 6, "reference": 4}, id="zero1"),
        pytest.param(2, {"weights": 4, "gradients": 2, "optimizer": 6, "reference": 4}, id="zero2"),
        pytest.param(3, {"weights": 2, "gradients": 2, "optimizer": 6, "reference": 2}, id="zero3"),
    ],
)
def test_a_zero_stage_partitions_its_parts_over_ranks(
    stage: Any, expected: dict[str, int], read_model: ReadModel
) -> None:
    memory = memory_per_device(TOY, read_model("tiny"), replace(LOAD, world_size=2, zero_stage=stage))
    assert {name: getattr(memory, name) for name in expected} == {
        name: size * TOY_PARAMETERS for name, size in expected.items()
    }


# Qwen2.5-7B, from its published config.json.
SEVEN_BILLION = ModelShape(
    hidden_size=3584, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4, intermediate_size=18944,
    vocab_size=152064, max_position_embeddings=32768, tie_word_embeddings=False, qkv_bias=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("zero_stage", "reported"), [pytest.param(2, 52e9, id="ZeRO-2"), pytest.param(3, 30e9, id="ZeRO-3")]
)
def test_seven_billion_weights_on_eight_cards_need_what_was_reported(
    zero_stage: int, reported: float, read_model: ReadModel
) -> None:
    model = read_model("qwen2.5-1.5b")  # float32, computes in bfloat16
    load = Load(
        True, True, rows=8, tokens=2048, logit_tokens=1024, sampled_rows=0, world_size=8, accumulates=True
    )
    memory = memory_per_device(SEVEN_BILLION, model, replace(load, zero_stage=zero_stage))
    assert memory.total == pytest.approx(reported, rel=0.1)


def test_deepspeed_holds_a_bucket_and_a_float32_copy_of_the_gradients(read_model: ReadModel) -> None:
    model = read_model("tiny", compute_dtype="bfloat16")
    load = replace(LOAD, world_size=2, zero_stage=2)
    memory = memory_per_device(TOY, model, load)
    assert memory.bucket == 500_000_000 * 2
    assert memory.update == TOY_PARAMETERS // 2 * (2 + 4)  # flat in bfloat16, and in float32
    assert memory_per_device(TOY, model, replace(load, zero_stage=3)).buffers == TOY_PARAMETERS * 2 // 2
    assert memory_per_device(TOY, model, replace(load, offload=True)).update == 0
    assert memory_per_device(TOY, model, replace(load, device="cpu")).bucket == 0


def test_offloading_with_zero_3_leaves_only_gathered_weights_on_the_device(read_model: ReadModel) -> None:
    load = replace(LOAD, world_size=2, zero_stage=3, offload=True)
    memory = memory_per_device(TOY, read_model("tiny"), load)
    assert (memory.weights, memory.gradients, memory.optimizer, memory.reference) == (0, 0, 0, 0)
    assert memory.buffers == TOY_PARAMETERS * 4


def test_fsdp2_shares_float32_and_gathers_layers_in_the_compute_dtype(read_model: ReadModel) -> None:
    model = read_model("tiny", compute_dtype="bfloat16")
    memory = memory_per_device(TOY, model, replace(LOAD, world_size=2, fsdp=True))
    assert memory.weights == memory.gradients == memory.reference == TOY_PARAMETERS * 4 // 2
    assert memory.optimizer == TOY_PARAMETERS * 8 // 2
    layer, embeddings = 4 + 2 + 2 + 4 + 3 * 6, 5 * 2
    assert (
        memory.buffers == 2 * (2 * layer + 2 * embeddings) + (2 + 4) * layer
    )  # the reference's embeddings too


def test_fsdp2_trains_masters_of_float32_and_samples_with_whole_weights_of_the_compute_dtype(
    read_model: ReadModel,
) -> None:
    model = read_model("tiny", dtype="bfloat16", compute_dtype="bfloat16")
    load = replace(LOAD, world_size=2, fsdp=True)
    parts, gathered = (
        memory_per_device(TOY, model, replace(load, gathers=gathers)) for gathers in (False, True)
    )
    assert parts.weights == parts.gradients == TOY_PARAMETERS * 4 // 2
    assert parts.reference == TOY_PARAMETERS * 2 // 2  # frozen: as it was loaded
    assert gathered.sampling - parts.sampling == TOY_PARAMETERS * 2


def test_adapters_are_merged_into_a_copy_of_one_weight_for_vllm(read_model: ReadModel) -> None:
    load = replace(LOAD, sampled_rows=0, syncs=True)
    assert memory_per_device(TOY, read_model("tiny"), load).sampling < 100
    adapted = memory_per_device(TOY, read_model("tiny", lora={"r": 1}), load)
    assert adapted.sampling == 6 * (2 * 4 + 3 * 4)  # the largest matrix of a layer


def test_zero_3_gathers_the_whole_model_to_sample(read_model: ReadModel) -> None:
    load = replace(LOAD, world_size=4, zero_stage=3)
    parts, gathered = (
        memory_per_device(TOY, read_model("tiny"), replace(load, gathers=gathers))
        for gathers in (False, True)
    )
    assert gathered.sampling - parts.sampling == TOY_PARAMETERS * 4 * 3 / 4


def test_adapters_need_no_reference_and_optimizer_states_of_adapters_only(read_model: ReadModel) -> None:
    memory = memory_per_device(TOY, read_model("tiny", lora={"r": 1}), LOAD)
    adapted = (2 + 2) + 2 * (1 + 2) + (2 + 2) + 2 * (3 + 2) + (2 + 3)  # q, k and v, o, gate and up, down
    assert count_lora(TOY, LoraSettings(r=1)) == adapted
    assert (memory.reference, memory.optimizer, memory.update) == (0, adapted * 8, 0)
    assert memory.weights == TOY_PARAMETERS * 4 + adapted * 4


def test_a_step_that_only_samples_holds_weights_and_cache(read_model: ReadModel) -> None:
    memory = memory_per_device(TOY, read_model("tiny"), replace(LOAD, trains=False))
    assert memory.total == TOY_PARAMETERS * 4 + memory.sampling + memory.context


def test_mixed_precision_copies_the_weights_and_halves_all_but_the_norms(read_model: ReadModel) -> None:
    memory = memory_per_device(TOY, read_model("tiny", compute_dtype="bfloat16"), LOAD)
    norms, inputs, attention, mlp = 2 * 2 * (4 + 4), 5 * 2 * 2, 4 * 2 * 2 + 2 * 4 + 4 * 2, 4 * 3 * 2
    last_norm = 2 * (4 + 4 + 4)
    tile, head = 6 * 32768 * 2, 6 * 2 * (4 + 4) + 5 * 2 * 4
    copies = (TOY_PARAMETERS - 5 * 2) * 2
    assert memory.activations == 12 * (norms + inputs + attention + mlp + last_norm) + tile + head + copies


def test_gradient_checkpointing_keeps_only_the_inputs_of_layers(read_model: ReadModel) -> None:
    two = TOY.model_copy(update={"num_hidden_layers": 2})
    full = memory_per_device(two, read_model("tiny"), LOAD).activations
    saved = memory_per_device(two, read_model("tiny", gradient_checkpointing=True), LOAD).activations
    assert full - saved == 2 * 12 * (152 - 2 * 4)  # per token and layer, 152 bytes are replaced by the input


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"model_type": "mixtral", "num_local_experts": 8}, id="mixture of experts"),
        pytest.param({"model_type": "t5", "is_encoder_decoder": True}, id="encoder and decoder"),
        pytest.param({"model_type": "mamba", "hidden_size": 8}, id="no attention"),
    ],
)
def test_an_unsupported_architecture_has_no_shape(config: dict[str, Any]) -> None:
    assert shape_from_config(config) is None


def test_the_config_of_a_folder_takes_precedence_over_the_settings(
    tiny_folder: Path, read_model: ReadModel
) -> None:
    tiny = shape_in(read_model, "tiny")
    qwen = read_model("qwen2.5-0.5b", path=str(tiny_folder))
    found = shape_of(qwen)
    assert found is not None
    assert count_parameters(found) == count_parameters(tiny)
    assert shape_of(read_model("hf", path="someone/never-downloaded")) is None
    assert shape_of(read_model("tiny")) == tiny


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param({"max_position_embeddings": 4096}, 4096, id="no scaling"),
        pytest.param({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 2.0}}, 8192, id="linear"),
        pytest.param(
            {"max_position_embeddings": 32768,
             "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
            131072,
            id="yarn, as Qwen2.5's model card adds it",
        ),
        pytest.param(
            {"max_position_embeddings": 131072,
             "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}},
            131072,
            id="llama3, whose positions include the scaling",
        ),
        pytest.param({"rope_parameters": {"rope_theta": 1e4}}, None, id="no positions"),
    ],
)  # fmt: skip
def test_positions_include_rope_scaling(config: dict[str, Any], expected: int | None) -> None:
    assert positions_of(config) == expected


def test_bytes_are_written_with_a_unit() -> None:
    assert [readable(size) for size in (999, 1500, 2_000_000, 7_930_000_000)] == [
        "999 B",
        "1.5 kB",
        "2.0 MB",
        "7.9 GB",
    ]
