"""Writes a run for another framework, with the same data, rewards and settings."""
