"""The prompt: system message, answer style, and reading the answer from a completion."""
