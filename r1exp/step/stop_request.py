"""Requests, through a file in the step's folder, that the ranks of a step save a checkpoint and end.

A file works with accelerate, torch's elastic agent and srun, on one machine or many; a signal to any of
them would end the ranks before they could save. Rank 0 checks for the file after every optimizer step
(`r1exp.stage.stopping`).
"""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from r1exp.errors import Interrupted, Preempted, R1ExpError
from r1exp.files import write_text
from r1exp.paths import StepPaths
from r1exp.settings import Name, Settings

RequestedState = Literal["interrupted", "preempted"]


class StopRequest(Settings):
    """A request to end a step before it is done."""

    state: RequestedState
    reason: Name

    def error(self) -> R1ExpError:
        """Return the error with which a step or a run ends because of this request."""
        return Preempted(self.reason) if self.state == "preempted" else Interrupted(self.reason)


def request_stop(folder: Path, request: StopRequest) -> None:
    """Request that the step in `folder` saves a checkpoint and ends after its current optimizer step."""
    write_text(StepPaths(folder).stop_request, request.model_dump_json() + "\n")


def requested_stop(folder: Path) -> StopRequest | None:
    """Return the request to the step in `folder`, or None."""
    try:
        return StopRequest.model_validate_json(
            StepPaths(folder).stop_request.read_text(encoding="utf-8"), strict=True
        )
    except (FileNotFoundError, ValidationError):
        return None


def withdraw_stop(folder: Path) -> None:
    """Delete a request that was made to an earlier start of the step."""
    StepPaths(folder).stop_request.unlink(missing_ok=True)
