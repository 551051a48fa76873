"""vLLM engines and servers of a step: their command, their devices, and how they start, are watched, and end."""
