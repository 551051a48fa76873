"""Reads the sizes of a model, and counts its parameters and those of its adapters. Torch-free."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from r1exp.files import read_object
from r1exp.model.adapters import base_of, is_adapter_folder
from r1exp.model.locate import locate
from r1exp.model.quantization import BYTES_PER_WEIGHT
from r1exp.model.settings import BYTES_PER_NUMBER, LoraSettings, ModelSettings, ModelShape

_QK_NORMS = ("qwen3", "gemma3", "gemma3_text")  # model types with an RMSNorm over each head's query and key


def count_parameters(shape: ModelShape) -> int:
    """Return the number of parameters of a decoder with RMSNorm and a gated MLP."""
    hidden = shape.hidden_size
    heads = shape.num_attention_heads + 2 * shape.num_key_value_heads  # of queries, keys and values
    matrices = sum(rows * columns for rows, columns in linear_layers(shape).values())
    biases = heads * shape.features_per_head if shape.qkv_bias else 0
    head_norms = 2 * shape.features_per_head if shape.qk_norm else 0
    layer = matrices + biases + head_norms + shape.num_norms_per_layer * hidden
    embeddings = shape.vocab_size * hidden * (1 if shape.tie_word_embeddings else 2)
    return shape.num_hidden_layers * layer + hidden + embeddings


def count_lora(shape: ModelShape, lora: LoraSettings) -> int:
    """Return the number of parameters of the adapters: r * (in + out) for every adapted matrix."""
    names = lora.target_modules
    sizes = [
        rows + columns
        for name, (rows, columns) in linear_layers(shape).items()
        if names == "all-linear" or name in names
    ]
    return shape.num_hidden_layers * lora.r * sum(sizes)


def shape_of(settings: ModelSettings) -> ModelShape | None:
    """Return the sizes of a model from its config.json if that is on this machine, else from `model.shape`.

    Returns None if neither is available, or if `count_parameters` does not cover the architecture.
    Makes no network request.
    """
    if settings.path is None:
        return settings.shape
    place, revision = locate(settings), settings.revision
    if isinstance(place, Path) and is_adapter_folder(place):
        place, revision = base_of(place)
    if isinstance(place, Path):
        file: Any = place / "config.json"
    else:
        from huggingface_hub import try_to_load_from_cache  # imported late: takes 0.1 s

        assert place is not None  # model.path is set
        file = try_to_load_from_cache(place, "config.json", revision=revision)
    if not isinstance(file, str | Path):
        return settings.shape
    return shape_from_config(read_object(Path(file), f"model.path={settings.path}")) or settings.shape


def shape_from_config(config: Mapping[str, Any]) -> ModelShape | None:
    """Return the sizes in the content of a config.json; None for encoders, mixtures of experts and the like."""
    config = config.get("text_config", config)
    kind = config.get("model_type", "")
    if any("expert" in key for key in config) or config.get("is_encoder_decoder"):
        return None
    names = [name for name in ModelShape.model_fields if name in config]
    values = {name: config[name] for name in names}
    values.setdefault("num_key_value_heads", config.get("num_attention_heads"))
    # Defaults of the model's class in transformers, for fields that config.json leaves out.
    values.setdefault("tie_word_embeddings", kind.startswith("gemma"))
    values["qkv_bias"] = config.get("attention_bias", kind == "qwen2")
    values["max_position_embeddings"] = positions_of(config)
    values["qk_norm"] = kind in _QK_NORMS
    values["num_norms_per_layer"] = 4 if kind.startswith(("gemma2", "gemma3")) else 2
    try:
        return ModelShape.model_validate(values)
    except ValidationError:
        return None


def positions_of(config: Mapping[str, Any]) -> int | None:
    """Return the longest sequence that a config.json allows, in tokens, with its rope scaling applied."""
    number = config.get("max_position_embeddings")
    if number is None:
        return None
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    scaled = rope.get("original_max_position_embeddings", number) * (rope.get("factor") or 1.0)
    return max(int(number), int(scaled))


def linear_layers(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """Return name -> (out, in) of the matrices of one layer."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.features_per_head
    keys = shape.num_key_value_heads * shape.features_per_head
    return {
        "q_proj": (queries, hidden),
        "k_proj": (keys, hidden),
        "v_proj": (keys, hidden),
        "o_proj": (hidden, queries),
        "gate_proj": (inner, hidden),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner),
    }


def num_embeddings(shape: ModelShape) -> int:
    """Return the numbers of one embedding or output matrix."""
    return shape.vocab_size * shape.hidden_size


def weight_bytes(shape: ModelShape, model: ModelSettings) -> int:
    """Return the bytes of all weights, without adapters."""
    plain = num_unquantized(shape, model)
    num_quantized = count_parameters(shape) - plain
    bytes_each = BYTES_PER_WEIGHT[model.quantization] if model.quantization else 0.0
    return plain * BYTES_PER_NUMBER[model.dtype] + int(num_quantized * bytes_each)


def num_unquantized(shape: ModelShape, model: ModelSettings) -> int:
    """Return the number of parameters that have `model.dtype`."""
    if model.quantization is None:
        return count_parameters(shape)
    matrices = sum(rows * columns for rows, columns in linear_layers(shape).values())
    return count_parameters(shape) - shape.num_hidden_layers * matrices


def trained_critic_parameters(shape: ModelShape | None, lora: LoraSettings) -> int:
    """Return how many parameters of a value model are trained: all, or its adapters and the head; None: 0."""
    if shape is None:
        return 0
    return count_lora(shape, lora) + shape.hidden_size + 1 if lora.r else critic_parameters(shape)


def critic_parameters(shape: ModelShape | None) -> int:
    """Return the number of parameters of a value model: a trunk without output matrix, and a scalar head; None: 0."""
    if shape is None:
        return 0
    output = 0 if shape.tie_word_embeddings else num_embeddings(shape)
    return count_parameters(shape) - output + shape.hidden_size + 1
