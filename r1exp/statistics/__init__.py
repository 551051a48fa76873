"""Computes confidence intervals and paired tests."""
