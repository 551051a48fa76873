"""How much memory does a step need on each device? An estimate, in bytes, from sizes alone. Torch-free.

P parameters, T trained parameters (all, or LoRA's r * (in + out) a matrix), W ranks, ZeRO stage z:

    weights      P * bytes of dtype + LoRA's T * 4    / W where z = 3
    gradients    T * bytes of dtype                   / W where z >= 2
    optimizer    AdamW, two moments: 2 * T * bytes    / W where z >= 1; ZeRO keeps them and a master
                 copy in float32: 12 * T              (arXiv:1910.02054, section 3.1)
    reference    P * bytes of dtype                   / W where z = 3; none with LoRA
    kv_cache     2 * layers * key heads * head size * tokens * rows sampled at once * bytes
    activations  what the backward pass needs (arXiv:2205.05198, section 4, for a gated MLP), the
                 logits with their float32 copy and gradient, and autocast's copy of the weights

Sampling and the passes follow each other, so the peak holds the larger of kv_cache and activations.
Not counted: the CUDA context (about 0.5 GB), buffers of NCCL, and what the allocator wastes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from r1exp.model.locate import locate
from r1exp.model.settings import BYTES_PER_NUMBER, LoraSettings, ModelSettings, ModelShape

_FLOAT32 = 4  # bytes


@dataclass(frozen=True, slots=True)
class Load:
    """What a step puts on one device."""

    trains: bool  # false: only samples
    keeps_reference: bool  # a frozen copy for the KL
    rows: int  # rows of one forward and backward pass
    tokens: int  # prompt and completion of the longest row
    logit_tokens: int  # tokens per row whose logits are kept: SFT all, RL those of the completion
    sampled_rows: int  # sequences sampled at once; 0: nobody samples here
    world_size: int = 1  # ranks
    zero_stage: Literal[0, 1, 2, 3] = 0  # 0: plain data parallelism


@dataclass(frozen=True, slots=True)
class Memory:
    """The estimate for one device and its parts, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    reference: int
    kv_cache: int
    activations: int

    @property
    def total(self) -> int:
        """Return the peak: what always stays, and the larger of sampling and the passes."""
        stays = self.weights + self.gradients + self.optimizer + self.reference
        return stays + max(self.kv_cache, self.activations)

    def lines(self) -> list[str]:
        """Return the estimate as `plan` shows it."""
        parts = (f"{name.replace('_', ' ')} {readable(getattr(self, name))}" for name in self.__slots__)
        return [f"memory per device: about {readable(self.total)} ({', '.join(parts)})"]


def memory_per_device(shape: ModelShape, model: ModelSettings, load: Load) -> Memory:
    """Return what one device holds at the peak of a step."""
    width = BYTES_PER_NUMBER[model.dtype]
    num_parameters = count_parameters(shape)
    num_adapted = count_lora(shape, model.lora)
    num_trained = (num_adapted or num_parameters) if load.trains else 0
    has_master = load.zero_stage > 0 and not num_adapted
    stage, ranks = load.zero_stage, load.world_size

    def shared(size: int, from_stage: int) -> int:
        return -(-size // ranks) if stage >= from_stage else size

    has_reference = load.keeps_reference and load.trains and not num_adapted
    moments = 12 if has_master else 2 * (_FLOAT32 if num_adapted else width)
    return Memory(
        weights=shared(num_parameters * width + num_adapted * _FLOAT32, 3),
        gradients=shared(num_trained * (_FLOAT32 if num_adapted else width), 2),
        optimizer=shared(num_trained * moments, 1),
        reference=shared(num_parameters * width, 3) if has_reference else 0,
        kv_cache=_cache_bytes(shape, load.tokens, load.sampled_rows, width),
        activations=_activation_bytes(shape, model, load) if load.trains else 0,
    )


def count_parameters(shape: ModelShape) -> int:
    """Return the number of parameters of a decoder with RMSNorm and a gated MLP."""
    hidden = shape.hidden_size
    heads = shape.num_attention_heads + 2 * shape.num_key_value_heads  # of queries, keys and values
    matrices = sum(rows * columns for rows, columns in _linear_layers(shape).values())
    biases = heads * shape.features_per_head if shape.qkv_bias else 0
    layer = matrices + biases + shape.num_norms_per_layer * hidden
    embeddings = shape.vocab_size * hidden * (1 if shape.tie_word_embeddings else 2)
    return shape.num_hidden_layers * layer + hidden + embeddings


def count_lora(shape: ModelShape, lora: LoraSettings) -> int:
    """Return the number of parameters of the adapters: r * (in + out) for every adapted matrix."""
    names = lora.target_modules
    sizes = [
        rows + columns
        for name, (rows, columns) in _linear_layers(shape).items()
        if names == "all-linear" or name in names
    ]
    return shape.num_hidden_layers * lora.r * sum(sizes)


def shape_of(settings: ModelSettings) -> ModelShape | None:
    """Return the sizes of a model: as its config.json says, where that is on this machine, else as set.

    None where neither says, or where the architecture is none that `count_parameters` covers.
    Never asks the network.
    """
    if settings.path is None:
        return settings.shape
    place = locate(settings)
    if isinstance(place, Path):
        file: Any = place / "config.json"
    else:
        from huggingface_hub import try_to_load_from_cache  # a tenth of a second: only where it is needed

        file = try_to_load_from_cache(settings.path, "config.json", revision=settings.revision)
    if not isinstance(file, str | Path):
        return settings.shape
    return shape_from_config(json.loads(Path(file).read_text(encoding="utf-8"))) or settings.shape


def shape_from_config(config: Mapping[str, Any]) -> ModelShape | None:
    """Read the sizes from the content of a config.json; None for encoders, mixtures of experts and the like."""
    config = config.get("text_config", config)
    kind = config.get("model_type", "")
    if any("expert" in key for key in config) or config.get("is_encoder_decoder"):
        return None
    names = [name for name in ModelShape.model_fields if name in config]
    values = {name: config[name] for name in names}
    values.setdefault("num_key_value_heads", config.get("num_attention_heads"))
    # What config.json leaves out, the library's class of that model decides.
    values.setdefault("tie_word_embeddings", kind.startswith("gemma"))
    values["qkv_bias"] = config.get("attention_bias", kind == "qwen2")
    values["num_norms_per_layer"] = 4 if kind.startswith(("gemma2", "gemma3")) else 2
    try:
        return ModelShape.model_validate(values)
    except ValidationError:
        return None


def readable(size: int) -> str:
    """Return bytes as a person reads them: 1.5 GB, powers of 1000."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def _linear_layers(shape: ModelShape) -> dict[str, tuple[int, int]]:
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


def _cache_bytes(shape: ModelShape, tokens: int, rows: int, width: int) -> int:
    features = 2 * shape.num_key_value_heads * shape.features_per_head  # a key and a value
    return shape.num_hidden_layers * features * tokens * rows * width


def _activation_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> int:
    width = BYTES_PER_NUMBER[model.compute_dtype]
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.features_per_head
    keys = shape.num_key_value_heads * shape.features_per_head
    # A layer keeps, for each token: inputs of its matrices and of the residual sums, queries and keys
    # before and after rotation, the MLP's four products, and both norms' inputs in float32.
    token = width * (6 * hidden + 3 * queries + 3 * keys + 4 * inner) + 2 * _FLOAT32 * hidden
    if model.attn_implementation == "eager":  # scores and probabilities of every pair of tokens
        token += shape.num_attention_heads * load.tokens * (width + _FLOAT32)
    num_tokens = load.rows * load.tokens
    if model.gradient_checkpointing:  # one layer in full, of the others their inputs
        layers = num_tokens * (token + shape.num_hidden_layers * width * hidden)
    else:
        layers = num_tokens * token * shape.num_hidden_layers
    # The logits, their float32 copy, and the gradients of both.
    logits = load.rows * load.logit_tokens * shape.vocab_size * 2 * (width + _FLOAT32)
    is_mixed = model.compute_dtype != model.dtype
    copies = count_parameters(shape) * width if is_mixed else 0
    return layers + logits + copies
