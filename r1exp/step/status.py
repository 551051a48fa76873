"""Reads and writes `status.json`, the state of a step."""

from pathlib import Path
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, ValidationError

from r1exp.errors import ExitCode, Interrupted, Preempted, R1ExpError, StoppedByHealth
from r1exp.files import write_text
from r1exp.model.folder_hash import remembered_hash
from r1exp.paths import StepPaths
from r1exp.settings import Settings

# `damaged` is not written: it is the state of a step whose status.json cannot be read.
State = Literal["running", "done", "failed", "stopped", "preempted", "interrupted", "damaged"]


class ArtifactInfo(Settings):
    """The content of `artifact/` of a finished step."""

    kind: Literal["model", "reward_model", "dataset", "scores"]
    hash: str  # of the names and contents of all files


class Status(Settings):
    """The state of a step, with what a user needs to continue from there."""

    state: State
    reason: str | None = None  # why the state is not `done`
    rank: NonNegativeInt | None = None  # the rank that failed first
    checkpoint: str | None = None  # last complete checkpoint, relative to the step's folder
    seconds: NonNegativeFloat = 0.0  # wall-clock seconds that this run spent on the step; 0 if it was reused
    original_seconds: NonNegativeFloat | None = None  # of a reused step: seconds in the run that executed it
    artifact: ArtifactInfo | None = None
    reused_from: str | None = None  # the run that executed the step, if it was found in the step store
    variant: str | None = None  # of a finished step: the second part of its key, a hash of its numerics
    numerics: dict[str, int | bool | str | None] | None = None  # what shifted the last digits of its result
    other_numerics: str | None = None  # of a step reused with other numerics than planned: how they differ
    tracking_id: str | None = None  # identity of the step in trackers; None: no tracker

    def write(self, folder: Path) -> None:
        """Replace the status of the step in `folder`."""
        write_text(StepPaths(folder).status, self.model_dump_json(indent=2, exclude_none=True) + "\n")


def read_status(folder: Path) -> Status | None:
    """Return the status of the step in `folder`; None if it has not started.

    A file that is empty or damaged gives the state `damaged`: the step is not done, and runs again.
    """
    path = StepPaths(folder).status
    try:
        return Status.model_validate_json(path.read_bytes(), strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = "empty" if not path.stat().st_size else f"damaged ({first['msg']})"
        return Status(state="damaged", reason=f"{path} is {what}; the same command runs the step again")
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror})"
        return Status(state="damaged", reason=reason)


def is_finished(folder: Path) -> bool:
    """Whether the step in `folder` is done and its artifact is still the one that the step made."""
    status = read_status(folder)
    return status is not None and status.state == "done" and not is_changed(folder)


def is_changed(folder: Path) -> bool:
    """Whether the artifact of the finished step in `folder` is not the one that the step made."""
    status = read_status(folder)
    if status is None or status.artifact is None:
        return False
    return remembered_hash(StepPaths(folder).artifact) != status.artifact.hash


def state_of(error: R1ExpError) -> State:
    """Return the state of a step that ended with `error`."""
    if isinstance(error, StoppedByHealth):
        return "stopped"
    if isinstance(error, Preempted):
        return "preempted"
    if isinstance(error, Interrupted):
        return "interrupted"
    return "failed"


def state_with(code: ExitCode) -> State:
    """Return the state that an exit code stands for."""
    return next((state for state, other in EXIT_CODES.items() if other == code), "failed")


EXIT_CODES: dict[State, ExitCode] = {
    "done": ExitCode.DONE,
    "failed": ExitCode.FAILED,
    "stopped": ExitCode.STOPPED,
    "preempted": ExitCode.PREEMPTED,
    "interrupted": ExitCode.INTERRUPTED,
    "running": ExitCode.FAILED,  # a process that ended without writing its status
    "damaged": ExitCode.FAILED,
}
