"""Checks logged metrics against rules, and warns, saves or stops when a rule is broken."""
