"""How much memory does a step need on each device? An estimate, in bytes, from sizes alone. Torch-free.

P parameters, T trained parameters (all, or LoRA's r * (in + out) a matrix), W ranks, ZeRO stage z:

    weights      P * bytes of dtype + LoRA's T * 4    / W where z = 3
    gradients    T * bytes of dtype                   / W where z >= 2; twice that where plain data
                 parallelism keeps buckets beside them
    optimizer    AdamW, two moments: 2 * T * bytes    / W where z >= 1; ZeRO keeps them and a master
                 copy in float32: 12 * T              (arXiv:1910.02054, section 3.1)
    reference    P * bytes of dtype                   / W where z = 3; none with LoRA
    critic       weights and optimizer of a value model; its gradients and activations count with the others
    sampling     keys and values of all rows, one layer of them twice over and once per query head, logits
    activations  what the backward pass needs of each layer (arXiv:2205.05198, section 4, for a gated MLP
                 and attention that keeps no scores), and TRL 1.16's tiled output matrix: one tile of
                 4,096 tokens x 32,768 words, and float32 gradients of the matrix and of its inputs

Sampling, the passes and the update follow each other. Gradients appear while activations go, so the peak
holds the larger of the two; gradients of earlier rows of the same update stand beside both. Measured on
a CPU, where this is at most 15 % off (tests/model/test_memory_peak.py).
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
_TILE_TOKENS, _TILE_WORDS = 4096, 32768  # of TRL 1.16's output matrix
_CPU_TILES = 7.25  # float32 copies of a tile that the same takes without Triton


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
    zero_stage: int = 0  # 0: plain data parallelism
    offload: bool = False  # ZeRO's optimizer states rest in the host's memory
    accumulates: bool = False  # several passes make one update
    critic: ModelShape | None = None  # PPO's value model; None: none, or a head on the policy's trunk
    device: Literal["cpu", "cuda"] = "cuda"


@dataclass(frozen=True, slots=True)
class Memory:
    """The estimate for one device and its parts, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    reference: int
    critic: int
    sampling: int
    activations: int
    last_layers: int  # at the end of the backward pass, beside all gradients
    accumulates: bool

    @property
    def total(self) -> int:
        """Return the peak: what always stays, and the largest of sampling, the passes and their end."""
        stays = self.weights + self.optimizer + self.reference + self.critic
        passes = self.activations + (self.gradients if self.accumulates else 0)
        return stays + max(self.sampling, passes, self.gradients + self.last_layers)

    def lines(self) -> list[str]:
        """Return the estimate as `plan` shows it."""
        names = ("weights", "optimizer", "reference", "critic", "gradients", "sampling", "activations")
        parts = (f"{name} {readable(getattr(self, name))}" for name in names)
        return [f"memory per device: about {readable(self.total)} ({', '.join(parts)}; not all at once)"]


def memory_per_device(shape: ModelShape, model: ModelSettings, load: Load) -> Memory:
    """Return what one device holds at the peak of a step."""
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

    has_reference = load.keeps_reference and load.trains and not num_adapted
    gradients = num_trained * trained_width + num_valued * width
    return Memory(
        weights=shared(num_parameters * width + num_adapted * _FLOAT32, 3),
        gradients=shared(gradients * buckets, 2),
        optimizer=shared(num_trained * moments, 1),
        reference=shared(num_parameters * width, 3) if has_reference else 0,
        critic=shared(num_valued * width, 3) + shared(num_valued * moments, 1),
        sampling=_sampling_bytes(shape, model, load),
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
    values["max_position_embeddings"] = positions_of(config)
    values["num_norms_per_layer"] = 4 if kind.startswith(("gemma2", "gemma3")) else 2
    try:
        return ModelShape.model_validate(values)
    except ValidationError:
        return None


def positions_of(config: Mapping[str, Any]) -> int | None:
    """Return the longest sequence that a config.json allows, in tokens, stretched positions included."""
    number = config.get("max_position_embeddings")
    if number is None:
        return None
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    stretched = rope.get("original_max_position_embeddings", number) * (rope.get("factor") or 1.0)
    return max(int(number), int(stretched))


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


def _embedding(shape: ModelShape) -> int:
    return shape.vocab_size * shape.hidden_size


def _critic_parameters(load: Load) -> int:
    """Return the parameters of a value model: a trunk without output matrix, and a head of one number."""
    if load.critic is None:
        return 0
    output = 0 if load.critic.tie_word_embeddings else _embedding(load.critic)
    return count_parameters(load.critic) - output + load.critic.hidden_size + 1


def _sampling_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> int:
    rows, width = load.sampled_rows, BYTES_PER_NUMBER[model.compute_dtype]
    key_width = max(width, BYTES_PER_NUMBER[model.dtype])  # keys leave the rotation in the wider one
    keys = shape.num_key_value_heads * shape.features_per_head
    queries = shape.num_attention_heads * shape.features_per_head
    layer = load.tokens * rows * keys * (key_width + width)
    once = (
        layer + 2 * load.tokens * rows * queries * width
    )  # the layer that grows, and its copy for each query head
    logits = 3 * rows * shape.vocab_size * _FLOAT32
    copies = count_parameters(shape) * width if rows and model.compute_dtype != model.dtype else 0
    return shape.num_hidden_layers * layer + once + logits + copies


def _activation_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> int:
    """Return what the backward pass holds where it is most: at its start, in the output matrix, or in a layer."""
    kept, layer = _trunk_bytes(shape, model, load)
    head = _head_bytes(shape, model, load)
    if load.critic is None:
        return kept + max(head, layer)
    critic, critic_layer = _trunk_bytes(load.critic, model, load)
    critic_gradients = _critic_parameters(load) * BYTES_PER_NUMBER[model.dtype]
    after_critic = 0 if load.accumulates else critic_gradients
    return kept + max(critic + critic_layer, head + after_critic, layer + after_critic)


def _trunk_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> tuple[int, int]:
    """Return what the layers keep for the backward pass, and what it computes again at a time."""
    width = BYTES_PER_NUMBER[model.compute_dtype]
    is_mixed = model.compute_dtype != model.dtype
    stream = max(width, BYTES_PER_NUMBER[model.dtype])  # of the residual sums
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.features_per_head
    # For each token: of a norm its input in float32 and the result before its weight; the inputs of the
    # matrices (autocast keeps a copy for each of q, k, v, gate and up); queries, keys and values for every
    # head, and the attention's result; gate, up, silu and their product.
    norm = hidden * (_FLOAT32 + stream)
    inputs = hidden * width * (5 if is_mixed else 2)
    token = shape.num_norms_per_layer * norm + inputs + width * (4 * queries + 4 * inner)
    if model.attn_implementation == "eager":  # scores and probabilities of every pair of tokens
        token += shape.num_attention_heads * load.tokens * (width + _FLOAT32)
    else:
        token += shape.num_attention_heads * _FLOAT32  # the logarithms of their sums
    num_tokens = load.rows * load.tokens
    last_norm = num_tokens * (norm + hidden * stream)
    copies = (count_parameters(shape) - _embedding(shape)) * width if is_mixed else 0
    if model.gradient_checkpointing:  # of the layers their inputs
        return num_tokens * shape.num_hidden_layers * stream * hidden + last_norm, num_tokens * token + copies
    return num_tokens * token * shape.num_hidden_layers + last_norm + copies, 0


def _head_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> int:
    """Return what TRL's tiled output matrix takes beside the layers' activations."""
    width, stored = BYTES_PER_NUMBER[model.compute_dtype], BYTES_PER_NUMBER[model.dtype]
    scored = load.rows * (load.logit_tokens if load.device == "cuda" else load.tokens - 1)
    tile_tokens = min(scored, _TILE_TOKENS)
    tiles = tile_tokens * _TILE_WORDS * width
    if load.device == "cpu":
        tiles += int(_CPU_TILES * tile_tokens * min(shape.vocab_size, _TILE_WORDS) * _FLOAT32)
    inputs = scored * shape.hidden_size * (stored + _FLOAT32)
    trained = 0 if model.lora.r else _embedding(shape) * (_FLOAT32 + (stored if stored < _FLOAT32 else 0))
    return tiles + inputs + trained
