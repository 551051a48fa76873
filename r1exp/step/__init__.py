"""State of a running step: status, checkpoints, failures and stop requests."""
