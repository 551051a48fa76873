"""Reads and writes the state of a step: status, checkpoints, failures, and requests to stop."""
