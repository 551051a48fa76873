"""Writes metrics to metrics.jsonl, and to W&B if configured."""
