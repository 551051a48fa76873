"""Executes plans: run directories, the step store, processes, sweeps and SLURM jobs."""
