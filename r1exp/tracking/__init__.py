"""Tracking of metrics: always in metrics.jsonl, and in W&B if configured."""
