"""Stands in for vLLM: as a regular package, so that it wins over an installed one."""
