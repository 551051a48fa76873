"""Finds rows of a data set that should not be learned from: copies of each other, and of questions that are evaluated."""
