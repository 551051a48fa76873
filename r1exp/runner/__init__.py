"""Runs a plan: the run directory, the step store, the processes, and what they leave."""
