"""Reports the results of runs and sweeps: summary.json for programs, report.md for readers."""
