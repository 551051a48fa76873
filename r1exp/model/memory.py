"""Estimates the peak memory of a step on each device, in bytes, from the model's sizes alone. Torch-free.

P parameters, T trained parameters (all, or LoRA's r * (in + out) per matrix), W ranks, ZeRO stage z:

    weights      P * bytes of dtype + LoRA's T * 4    / W if z = 3; of a quantized model, the matrices of its
                 layers have fewer bytes (r1exp.model.quantization)
    gradients    T * bytes of dtype                   / W if z >= 2; twice that with plain data
                 parallelism, which also keeps buckets
    optimizer    AdamW, two moments: 2 * T * bytes    / W if z >= 1; ZeRO keeps them and a master
                 copy in float32: 12 * T              (arXiv:1910.02054, section 3.1)
    reference    P * bytes of dtype                   / W if z = 3; none with LoRA
    critic       weights and optimizer of a value model; its gradients and activations count with the others
    sampling     keys and values of all rows, for one layer a second copy and a copy per query head, logits;
                 with z = 3 the gathered weights, also where merged adapters are sent to vLLM
    activations  what the backward pass needs of each layer (arXiv:2205.05198, section 4, for a gated MLP
                 and attention that keeps no scores), and TRL 1.16's tiled output matrix: one tile of
                 4,096 tokens x 32,768 vocabulary entries, and float32 gradients of the matrix and its inputs

Sampling, the forward and backward passes and the optimizer step run one after the other. The backward pass
frees activations while it allocates gradients, so the peak holds the larger of the two. With gradient
accumulation, the gradients of earlier passes are held in addition. Measured on a CPU, the estimate is at
most 15 % off (tests/model/test_memory_peak.py).
DeepSpeed casts the whole model to the compute dtype, also the reference, and keeps float32 in the master copy only. For
7 billion parameters on 8 devices about 52 GB were measured with ZeRO-2; with ZeRO-3 24 GB and 4 to 8 GB of buffers.
Not counted: the CUDA context (about 0.5 GB), buffers of NCCL and of ZeRO-3, and fragmentation of the allocator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from r1exp.files import read_object
from r1exp.model.adapters import base_of, is_adapter_folder
from r1exp.model.locate import locate
from r1exp.model.quantization import BYTES_PER_WEIGHT
from r1exp.model.settings import BYTES_PER_NUMBER, LoraSettings, ModelSettings, ModelShape

_FLOAT32 = 4  # bytes
_TILE_TOKENS, _TILE_VOCAB = 4096, 32768  # tile of TRL 1.16's output matrix: tokens x vocabulary entries
_CPU_TILES = 7.25  # float32 copies of a tile that the same computation holds without Triton


@dataclass(frozen=True, slots=True)
class Load:
    """The work of one step on one device."""

    trains: bool  # false: the step only samples
    keeps_reference: bool  # a frozen copy of the policy for the KL
    rows: int  # rows of one forward and backward pass
    tokens: int  # tokens of the longest row, prompt and completion
    logit_tokens: int  # tokens per row whose logits are kept; SFT: all, RL: those of the completion
    sampled_rows: int  # sequences sampled at once; 0: no sampling on this device
    world_size: int = 1  # ranks
    zero_stage: int = 0  # 0: plain data parallelism
    offload: bool = False  # ZeRO keeps the optimizer states in host memory
    gathers: bool = (
        False  # ZeRO-3 gathers the whole model, to sample from it or to send merged adapters to vLLM
    )
    accumulates: bool = False  # several passes per optimizer step
    critic: ModelShape | None = None  # PPO's value model; None: no critic, or a head on the policy's trunk
    device: Literal["cpu", "cuda"] = "cuda"


@dataclass(frozen=True, slots=True)
class Memory:
    """The estimate for one device, by part, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    reference: int
    critic: int
    sampling: int
    activations: int
    last_layers: int  # allocated at the end of the backward pass, in addition to all gradients
    accumulates: bool

    @property
    def permanent(self) -> int:
        """Return the parts that are held during the whole step."""
        return self.weights + self.optimizer + self.reference + self.critic

    @property
    def total(self) -> int:
        """Return the peak: the permanent parts plus the largest of sampling, the passes and their end."""
        passes = self.activations + (self.gradients if self.accumulates else 0)
        return self.permanent + max(self.sampling, passes, self.gradients + self.last_layers)

    def lines(self) -> list[str]:
        """Return the estimate as `plan` shows it."""
        names = ("weights", "optimizer", "reference", "critic", "gradients", "sampling", "activations")
        parts = (f"{name} {readable(getattr(self, name))}" for name in names)
        return [f"memory per device: about {readable(self.total)} ({', '.join(parts)}; not all at once)"]


def memory_per_device(shape: ModelShape, model: ModelSettings, load: Load) -> Memory:
    """Return the estimate for one device at the peak of a step."""
    if load.zero_stage:
        model = model.model_copy(update={"dtype": model.compute_dtype})  # DeepSpeed casts the whole model
    width = BYTES_PER_NUMBER[model.dtype]
    num_parameters = count_parameters(shape)
    num_adapted = count_lora(shape, model.lora)
    num_trained = (num_adapted or num_parameters) if load.trains else 0
    num_valued = _critic_parameters(load)
    trained_width = _FLOAT32 if num_adapted else width
    has_master = load.zero_stage > 0 and not num_adapted
    moments = 0 if load.offload else 12 if has_master else 2 * trained_width
    buckets = 2 if load.world_size > 1 and load.zero_stage == 0 else 1

    def shared(size: int, from_stage: int) -> int:
        return -(-size // load.world_size) if load.zero_stage >= from_stage else size

    weights = _weight_bytes(shape, model) + num_adapted * _FLOAT32
    gathered = weights - shared(weights, 3) if load.gathers else 0
    has_reference = load.keeps_reference and load.trains and not num_adapted
    gradients = num_trained * trained_width + num_valued * width
    return Memory(
        weights=shared(weights, 3),
        gradients=shared(gradients * buckets, 2),
        optimizer=shared(num_trained * moments, 1),
        reference=shared(num_parameters * width, 3) if has_reference else 0,
        critic=shared(num_valued * width, 3) + shared(num_valued * moments, 1),
        sampling=_sampling_bytes(shape, model, load) + gathered,
        activations=_activation_bytes(shape, model, load) if load.trains else 0,
        last_layers=_embedding(shape) * width if load.trains and not num_adapted else 0,
        accumulates=load.accumulates or load.world_size > 1,
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


def _weight_bytes(shape: ModelShape, model: ModelSettings) -> int:
    """Return the bytes of all weights, without adapters."""
    plain = _num_unquantized(shape, model)
    num_quantized = count_parameters(shape) - plain
    bytes_each = BYTES_PER_WEIGHT[model.quantization] if model.quantization else 0.0
    return plain * BYTES_PER_NUMBER[model.dtype] + int(num_quantized * bytes_each)


def _num_unquantized(shape: ModelShape, model: ModelSettings) -> int:
    """Return the number of parameters that have `model.dtype`."""
    if model.quantization is None:
        return count_parameters(shape)
    matrices = sum(rows * columns for rows, columns in _linear_layers(shape).values())
    return count_parameters(shape) - shape.num_hidden_layers * matrices


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


def readable(size: int) -> str:
    """Return a number of bytes with a unit in powers of 1000, for example 1.5 GB."""
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


def _embedding(shape: ModelShape) -> int:
    return shape.vocab_size * shape.hidden_size


def _critic_parameters(load: Load) -> int:
    """Return the number of parameters of a value model: a trunk without output matrix, and a scalar head."""
    if load.critic is None:
        return 0
    output = 0 if load.critic.tie_word_embeddings else _embedding(load.critic)
    return count_parameters(load.critic) - output + load.critic.hidden_size + 1


def _sampling_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> int:
    rows, width = load.sampled_rows, BYTES_PER_NUMBER[model.compute_dtype]
    key_width = max(width, BYTES_PER_NUMBER[model.dtype])  # rotary embeddings return keys in the wider dtype
    keys = shape.num_key_value_heads * shape.features_per_head
    queries = shape.num_attention_heads * shape.features_per_head
    layer = load.tokens * rows * keys * (key_width + width)
    # The layer being extended is copied, and its keys and values are repeated for each query head.
    once = layer + 2 * load.tokens * rows * queries * width
    logits = 3 * rows * shape.vocab_size * _FLOAT32
    # Autocast keeps a copy of each weight in the compute dtype; quantized matrices are converted one at a time.
    copies = _num_unquantized(shape, model) * width if rows and model.compute_dtype != model.dtype else 0
    return shape.num_hidden_layers * layer + once + logits + copies


def _activation_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> int:
    """Return the peak of the backward pass, which lies in the critic, in the output matrix or in a layer."""
    kept, layer = _trunk_bytes(shape, model, load)
    head = _head_bytes(shape, model, load)
    if load.critic is None:
        return kept + max(head, layer)
    critic, critic_layer = _trunk_bytes(load.critic, model, load)
    critic_gradients = _critic_parameters(load) * BYTES_PER_NUMBER[model.dtype]
    after_critic = 0 if load.accumulates else critic_gradients
    return kept + max(critic + critic_layer, head + after_critic, layer + after_critic)


def _trunk_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> tuple[int, int]:
    """Return the bytes that all layers keep for the backward pass, and those of one recomputed layer."""
    width = BYTES_PER_NUMBER[model.compute_dtype]
    is_mixed = model.compute_dtype != model.dtype
    stream = max(width, BYTES_PER_NUMBER[model.dtype])  # of the residual sums
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.features_per_head
    # Kept per token: the input of each norm in float32 and its result before the weight; the inputs of the
    # matrices (autocast keeps a copy for each of q, k, v, gate and up); queries, keys and values of every
    # head, and the output of attention; gate, up, silu and their product.
    norm = hidden * (_FLOAT32 + stream)
    inputs = hidden * width * (5 if is_mixed else 2)
    token = shape.num_norms_per_layer * norm + inputs + width * (4 * queries + 4 * inner)
    if model.attn_implementation == "eager":  # scores and probabilities of every pair of tokens
        token += shape.num_attention_heads * load.tokens * (width + _FLOAT32)
    else:
        token += shape.num_attention_heads * _FLOAT32  # the logarithms of their sums
    num_tokens = load.rows * load.tokens
    last_norm = num_tokens * (norm + hidden * stream)
    copies = (_num_unquantized(shape, model) - _embedding(shape)) * width if is_mixed else 0
    if model.gradient_checkpointing:  # only the inputs of layers are kept
        return num_tokens * shape.num_hidden_layers * stream * hidden + last_norm, num_tokens * token + copies
    return num_tokens * token * shape.num_hidden_layers + last_norm + copies, 0


def _head_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> int:
    """Return the bytes of TRL's tiled output matrix, in addition to the layers' activations."""
    width, stored = BYTES_PER_NUMBER[model.compute_dtype], BYTES_PER_NUMBER[model.dtype]
    scored = load.rows * (load.logit_tokens if load.device == "cuda" else load.tokens - 1)
    tile_tokens = min(scored, _TILE_TOKENS)
    tiles = tile_tokens * _TILE_VOCAB * width
    if load.device == "cpu":
        tiles += int(_CPU_TILES * tile_tokens * min(shape.vocab_size, _TILE_VOCAB) * _FLOAT32)
    inputs = scored * shape.hidden_size * (stored + _FLOAT32)
    trained = 0 if model.lora.r else _embedding(shape) * (_FLOAT32 + (stored if stored < _FLOAT32 else 0))
    return tiles + inputs + trained
