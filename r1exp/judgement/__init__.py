"""Judges whether an answer is the gold answer: the one judge of rewards, evaluations, samples and reports."""
