"""Starts, watches and ends the vLLM engines and servers of a step."""
