"""Plans a run before it starts: steps, batches, memory, commands."""
