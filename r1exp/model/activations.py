"""Estimates what the passes and sampling of a step allocate on a device, in bytes. Torch-free.

What the backward pass needs of each layer (arXiv:2205.05198, section 4, for a gated MLP and attention that keeps no
scores), and TRL 1.16's tiled output matrix: one tile of 4,096 tokens x 32,768 vocabulary entries, and float32 gradients
of the matrix and its inputs. tests/model/test_activations.py counts the saved tensors of every architecture with a preset.
"""

from r1exp.model.settings import BYTES_PER_NUMBER, ModelSettings, ModelShape
from r1exp.model.shapes import num_embeddings, num_unquantized, trained_critic_parameters
from r1exp.model.workload import Load

_FLOAT32 = 4  # bytes
_TILE_TOKENS, _TILE_VOCAB = 4096, 32768  # tile of TRL 1.16's output matrix: tokens x vocabulary entries
_CPU_TILES = 7.25  # float32 copies of a tile that the same computation holds without Triton
_GEMMA_NORMS = 4  # norms of a layer of Gemma 2 and 3, which multiply in float32


def sampling_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> int:
    """Return the bytes of keys, values and logits while transformers samples."""
    rows, width = load.sampled_rows, BYTES_PER_NUMBER[model.compute_dtype]
    key_width = max(width, BYTES_PER_NUMBER[model.dtype])  # rotary embeddings return keys in the wider dtype
    keys = shape.num_key_value_heads * shape.features_per_head
    queries = shape.num_attention_heads * shape.features_per_head
    layer = load.tokens * rows * keys * (key_width + width)
    # The layer being extended is copied, and its keys and values are repeated for each query head.
    once = layer + 2 * load.tokens * rows * queries * width
    logits = 3 * rows * shape.vocab_size * _FLOAT32
    # Autocast keeps a copy of each weight in the compute dtype; quantized matrices are converted one at a time.
    copies = num_unquantized(shape, model) * width if rows and model.compute_dtype != model.dtype else 0
    return shape.num_hidden_layers * layer + once + logits + copies


def activation_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> int:
    """Return the peak of the backward pass, which lies in the critic, in the output matrix or in a layer."""
    kept, layer = trunk_bytes(shape, model, load)
    head = _head_bytes(shape, model, load)
    if load.critic is None:
        return kept + max(head, layer)
    critic, critic_layer = trunk_bytes(load.critic, model, load)
    critic_gradients = trained_critic_parameters(load.critic, model.lora) * BYTES_PER_NUMBER[model.dtype]
    after_critic = 0 if load.accumulates else critic_gradients
    return kept + max(critic + critic_layer, head + after_critic, layer + after_critic)


def trunk_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> tuple[int, int]:
    """Return the bytes that all layers keep for the backward pass, and those of one recomputed layer."""
    width = BYTES_PER_NUMBER[model.compute_dtype]
    is_mixed = model.compute_dtype != model.dtype
    stream = max(width, BYTES_PER_NUMBER[model.dtype])  # of the residual sums
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.features_per_head
    # Kept per token: the input of each norm in float32 and its result before the weight; the inputs of the
    # matrices (autocast keeps a copy for each of q, k, v, gate and up); queries, keys and values of every
    # head, and the output of attention; gate, up, silu and their product.
    in_float32 = shape.num_norms_per_layer == _GEMMA_NORMS
    norm = hidden * (_FLOAT32 + (_FLOAT32 if in_float32 else stream))
    inputs = hidden * width * (5 if is_mixed else 2)
    token = shape.num_norms_per_layer * norm + inputs + width * (4 * queries + 4 * inner)
    if shape.qk_norm:  # of queries and keys before rotation, as of every norm
        heads = queries + shape.num_key_value_heads * shape.features_per_head
        token += heads * (_FLOAT32 + (_FLOAT32 if in_float32 else width))
    if model.attn_implementation == "eager":  # scores and probabilities of every pair of tokens
        capped = width if in_float32 and not shape.qk_norm else 0  # Gemma 2: tanh of the scores
        rounded = width if width < _FLOAT32 else 0  # the probabilities, in the dtype of the passes
        token += shape.num_attention_heads * load.tokens * (rounded + capped + _FLOAT32)
    else:
        token += shape.num_attention_heads * _FLOAT32  # the logarithms of their sums
        token += load.tokens * width  # the mask of rows with padding, as numbers that are added to the scores
    num_tokens = load.rows * load.tokens
    last_norm = num_tokens * (norm + hidden * stream)
    copies = (num_unquantized(shape, model) - num_embeddings(shape)) * width if is_mixed else 0
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
    trained = 0 if model.lora.r else num_embeddings(shape) * (_FLOAT32 + (stored if stored < _FLOAT32 else 0))
    return tiles + inputs + trained
