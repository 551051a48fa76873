"""Carry out a frozen step, whichever kind it is, and return how it ended."""

import os
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState

from r1exp.files import hash_of_folder
from r1exp.launcher.extensions import find_ninja
from r1exp.stage.make_pairs import preferences
from r1exp.stage.measure import evaluate
from r1exp.stage.sample_answers import sample
from r1exp.stage.step import Step
from r1exp.step.status import ArtifactInfo, Status

ARTIFACT = "artifact"


def run_stage(step: Step, folder: Path) -> Status:
    """Do the work of `step` in its folder, on this rank.

    Returns the status `done`; rank 0 hashes the artifact. Raises R1ExpError for trouble with a name.
    """
    assert step.config.stage is not None
    join_ranks(step)
    kind = step.config.stage.kind
    tracking_id = _work_of(kind)(step, folder)
    artifact = None
    if os.environ.get("RANK", "0") == "0":
        artifact = ArtifactInfo(kind=step.config.stage.makes, hash=hash_of_folder(folder / ARTIFACT))
    return Status(state="done", artifact=artifact, tracking_id=tracking_id)


def join_ranks(step: Step) -> None:
    """Let the ranks find each other before anything is loaded."""
    PartialState(cpu=step.device == "cpu")
    if step.device == "cpu" and os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        find_ninja()
        import deepspeed  # an extra

        # accelerate 1.15 does this on devices only; ZeRO-3 would load models for a world of one rank.
        deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)


def _work_of(kind: str) -> Callable[[Step, Path], str | None]:
    """Return the function of a kind of stage. Training imports TRL, which takes seconds; measuring does not."""
    if kind == "evaluate":
        return evaluate
    if kind == "sample":
        return sample
    if kind == "preferences":
        return preferences
    if kind == "sft":
        from r1exp.stage.train_sft import sft

        return sft
    if kind == "reward_model":
        from r1exp.stage.train_reward_model import reward_model

        return reward_model
    from r1exp.stage.train_rl import rl

    return rl
