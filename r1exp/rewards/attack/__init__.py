"""Searches for completions that score well without a right answer: what `r1exp check --attack` runs."""
