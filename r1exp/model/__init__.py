"""Loads the policy and its tokenizer, and estimates the memory that it needs."""
