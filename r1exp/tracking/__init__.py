"""Where the numbers of a step go: always to metrics.jsonl, and to W&B when asked."""
