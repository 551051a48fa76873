"""The policy: its settings, its weights and tokenizer, and an estimate of the memory it needs."""
