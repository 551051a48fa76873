"""Composes a command line with Hydra, and validates it into one frozen `Experiment`."""
