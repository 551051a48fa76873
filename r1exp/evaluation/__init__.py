"""Evaluation of a model on held-out problems, and comparison of two evaluations."""
