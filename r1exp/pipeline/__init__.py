"""Ladders: an ordered mapping of steps, and which typed words reach which step."""
