"""Computes confidence intervals, paired tests, and both over training seeds."""
