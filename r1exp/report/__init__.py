"""Reports runs and sweeps: summary.json for programs, report.html, report.md and tables for readers, live or at their end."""
