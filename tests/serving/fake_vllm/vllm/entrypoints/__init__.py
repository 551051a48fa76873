"""A fake of vLLM; a regular package, so that it takes precedence over an installed one."""
