"""Runs untrusted code in isolation: programs that a policy wrote, and the checkers that judge them."""
