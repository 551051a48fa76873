"""The sizes of the model that `zero_states.py` trains: its matrices are larger than what ZeRO-3 keeps gathered (100,000 numbers)."""

from typing import Any

SHAPE: dict[str, Any] = {
    "hidden_size": 384, "num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 768,
    "num_hidden_layers": 4, "vocab_size": 1024, "tie_word_embeddings": False, "max_position_embeddings": 64,
}  # fmt: skip
