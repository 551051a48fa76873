"""How good a model is on problems it never saw, and whether it got better."""
