"""Measures a model on held-out problems, and compares two measurements."""
