"""Writes metrics to metrics.jsonl and to the chosen trackers, and keeps a sample of completions."""
