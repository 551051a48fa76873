"""The health monitor: rules on logged metrics, and the actions taken when a rule is broken."""
