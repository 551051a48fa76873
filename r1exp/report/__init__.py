"""What came of a run: summary.json for programs, report.md for people."""
