"""One file a kind of step: what the workers do."""
