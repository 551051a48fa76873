"""Plans a run before anything starts: its steps, batches, trainer arguments, memory and commands."""
