"""Rollouts: what generates completions, behind one interface for evaluation, sampling and labelling."""
