"""The parts of `benchmarks/soak.py`: what runs, who is killed, and the judge of the end."""
