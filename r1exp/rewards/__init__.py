"""The committee of rewards that scores completions, and the check that it ranks the gold answer first."""
