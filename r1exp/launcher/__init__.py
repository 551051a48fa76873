"""Decides where the processes of a step run, and the exact command that starts them."""
