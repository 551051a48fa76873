"""What will happen, worked out before anything does: steps, batches, memory, commands."""
