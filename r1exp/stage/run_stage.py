"""Runs the work of a step's stage on this rank, and returns the status of the step."""

import sys
from datetime import timedelta
from pathlib import Path

from r1exp.distributed import is_main_process, uses_deepspeed, uses_fsdp, world_size
from r1exp.files import hash_of_folder
from r1exp.launcher.agent import listen_at_the_address
from r1exp.launcher.extensions import find_ninja
from r1exp.paths import StepPaths
from r1exp.registry import load
from r1exp.stage.step import Step
from r1exp.step.status import ArtifactInfo, Status

_PATIENCE = 1800  # seconds that a rank waits for another one in training; the default of transformers
_DAY = 86_400  # seconds in other steps, whose ranks meet once at the end, and may have had unequal work


def run_stage(step: Step, folder: Path) -> Status:
    """Run `step` in its folder, on this rank.

    Returns:
        The status `done`; on rank 0 with the hash of the artifact.

    Raises:
        R1ExpError: the step failed with a message for the user.
    """
    stage = step.config.stage
    assert stage is not None
    if stage.trains or stage.generates:
        join_ranks(step)  # other work is done by rank 0 alone, and needs no torch
    tracking_id: str | None = load(stage.work)(step, folder)
    artifact = None
    if is_main_process():
        artifact = ArtifactInfo(kind=stage.makes, hash=hash_of_folder(StepPaths(folder).artifact))
    return Status(state="done", artifact=artifact, tracking_id=tracking_id)


def join_ranks(step: Step) -> None:
    """Connect the ranks before anything is loaded."""
    from accelerate import PartialState  # imports torch
    from torch.distributed import distributed_c10d

    listen_at_the_address()  # a rank without a launcher starts its own, as vLLM in one process does
    patience = timedelta(
        seconds=step.trainer_args.get("ddp_timeout", _PATIENCE) if step.trainer_args else _DAY
    )
    if step.device == "cpu" and uses_fsdp():
        from r1exp.model.shards import shard_on_cpus

        shard_on_cpus()
    # For groups that are made later without a timeout of their own, as DeepSpeed's of the ranks that share weights.
    vars(distributed_c10d).update(default_pg_timeout=patience, default_pg_nccl_timeout=patience)
    PartialState(cpu=step.device == "cpu", **({"timeout": patience} if world_size() > 1 else {}))
    if step.device == "cpu" and uses_deepspeed():
        find_ninja()
        import deepspeed  # an optional extra

        # accelerate 1.15 does this for GPUs only; without it ZeRO-3 would load models for a world size of 1.
        deepspeed.init_distributed(
            dist_backend="gloo", auto_mpi_discovery=False, verbose=False, timeout=patience
        )


def leave_ranks() -> None:
    """Disconnect the ranks, which have nothing left to tell each other.

    A thread of a process group that still runs when the interpreter ends may abort the process ("terminate called without
    an active exception", seen with ZeRO-3 under gloo), and a finished step would count as failed.
    """
    torch = sys.modules.get("torch")  # not imported by work that needs none
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
