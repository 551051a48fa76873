"""A Gemma-2-shaped model of 60 thousand random weights, with a tokenizer and a template that behave as Gemma 2's do."""

from pathlib import Path

from tests.model.chat_templates import GEMMA2
from tests.model.tokenizers_on_disk import tokenizer_folder


def gemma2_folder(folder: Path) -> Path:
    """Write the model: soft-capped logits, a sliding window, four norms a layer, and a template without system role."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    tokenizer_folder(folder, GEMMA2)
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=288, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16, sliding_window=64, max_position_embeddings=2048,
        bos_token_id=256, eos_token_id=257, pad_token_id=258,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config)
    model.generation_config.eos_token_id = [
        257,
        265,
    ]  # </s> and <end_of_turn>, as the published files have both
    model.save_pretrained(folder)
    return folder
