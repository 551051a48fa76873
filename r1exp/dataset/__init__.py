"""Where problems come from, and which of them no training step ever sees."""
