"""Reads data sets: problems in a training and a test split."""
