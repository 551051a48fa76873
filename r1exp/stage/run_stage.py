"""Runs the work of a step's stage on this rank, and returns the status of the step."""

from pathlib import Path

from r1exp.distributed import is_main_process, uses_deepspeed
from r1exp.files import hash_of_folder
from r1exp.launcher.agent import listen_at_the_address
from r1exp.launcher.extensions import find_ninja
from r1exp.paths import StepPaths
from r1exp.registry import load
from r1exp.stage.step import Step
from r1exp.step.status import ArtifactInfo, Status


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

    listen_at_the_address()  # a rank without a launcher starts its own, as vLLM in one process does
    PartialState(cpu=step.device == "cpu")
    if step.device == "cpu" and uses_deepspeed():
        find_ninja()
        import deepspeed  # an optional extra

        # accelerate 1.15 does this for GPUs only; without it ZeRO-3 would load models for a world size of 1.
        deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)
