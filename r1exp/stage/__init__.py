"""Stages, the kinds of step: settings of each, and the work that the workers do."""
