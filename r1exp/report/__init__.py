"""Summarizes runs and sweeps: summary.json for programs, report.md for users."""
