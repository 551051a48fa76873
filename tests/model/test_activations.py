"""Tests that the activations of a layer are the bytes that autograd saves on a CPU, for every architecture with a preset."""

from typing import Any

import pytest

from r1exp.model.activations import trunk_bytes
from r1exp.model.settings import LearningRates, ModelSettings, RowsPerDevice
from r1exp.model.shapes import shape_from_config
from r1exp.model.workload import Load

SIZES: dict[str, Any] = {
    "hidden_size": 192, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 512,
    "vocab_size": 64, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
ROWS, TOKENS = 2, 64


def saved_bytes(
    kind: str, num_layers: int, dtype: str, compute_dtype: str, attention: str
) -> tuple[int, Any]:
    """Return the bytes that the trunk's forward saves for rows with padding, and the model's config."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, **SIZES, num_hidden_layers=num_layers)
    config._attn_implementation = attention
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).train()
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Any] = {}  # the tensors are held, so that no storage is used twice

    def keep(tensor: Any) -> Any:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(3, 64, (ROWS, TOKENS))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != compute_dtype),
    ):
        model.model(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "compute_dtype"),
    [
        pytest.param("float32", "float32", id="float32"),
        pytest.param("float32", "bfloat16", id="mixed"),
        pytest.param("bfloat16", "bfloat16", id="bfloat16"),
    ],
)
@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama", "smollm3", "gemma2", "gemma3_text"])
def test_a_layer_keeps_what_autograd_saves(kind: str, dtype: Any, compute_dtype: Any) -> None:
    attention = "eager" if kind == "gemma2" else "sdpa"
    two, _ = saved_bytes(kind, 2, dtype, compute_dtype, attention)
    three, config = saved_bytes(kind, 3, dtype, compute_dtype, attention)
    shape = shape_from_config(config.to_dict())
    assert shape is not None
    model = ModelSettings(
        kind="pretrained", path="any", dtype=dtype, compute_dtype=compute_dtype, attn_implementation=attention,
        learning_rate=LearningRates(sft=1.0, rl=1.0), rows_per_device=RowsPerDevice(sft=1, rl=1),
    )  # fmt: skip
    load = Load(True, False, rows=ROWS, tokens=TOKENS, logit_tokens=TOKENS, sampled_rows=0)
    estimated = [
        trunk_bytes(shape.model_copy(update={"num_hidden_layers": number}), model, load)[0]
        for number in (2, 3)
    ]
    assert estimated[1] - estimated[0] == pytest.approx(three - two, rel=0.03)
