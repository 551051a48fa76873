#!/bin/bash
# A run in an allocation of SLURM that you hold: `salloc --nodes=2 --gpus-per-node=8 --time=4:00:00 bash launchers/salloc.sh`.
# srun starts the command once on every node, with SLURM_NODEID and SLURM_STEP_NODELIST, which launcher=torchrun reads. For
# jobs that are queued and requeued, use launcher=slurm.
# Source: Slurm 22.05, man salloc and man srun.
exec srun --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=0 --mpi=none \
    r1exp experiment=gemma2_gsm8k_vote launcher=torchrun launcher.strategy=zero2 \
    paths.run=/shared/runs/gemma2 paths.store=/shared/store
