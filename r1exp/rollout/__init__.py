"""Generates completions for evaluation, sampling and labelling, through one interface for all engines."""
