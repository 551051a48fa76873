"""The sizes of the model that `zero_states.py` trains."""

SHAPE: dict[str, int | bool] = {
    "hidden_size": 256, "num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 768,
    "num_hidden_layers": 8, "vocab_size": 1024, "tie_word_embeddings": False, "max_position_embeddings": 64,
}  # fmt: skip
