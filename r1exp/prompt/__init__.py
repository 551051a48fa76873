"""Writes prompts in a chosen style, and reads the answer from a completion."""
