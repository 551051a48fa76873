"""Who generates, and how: one interface for evaluation, sampling and labelling."""
