"""Composes a command line into one checked, frozen `Experiment`."""
