"""How does the parent of a step ask its ranks to save a checkpoint and end? With a file in the step's folder.

A file passes accelerate, torch's elastic agent and srun, on one machine or many; a signal to any of
them would end the ranks before they could save. Rank 0 looks for it after every optimizer step
(`r1exp.stage.stopping`).
"""

from pathlib import Path
from typing import Literal

from r1exp.errors import Interrupted, Preempted, R1ExpError
from r1exp.files import write_text
from r1exp.settings import Name, Settings

_FILE = "stop.json"
AskedState = Literal["interrupted", "preempted"]


class StopRequest(Settings):
    """Why a step is to end before its work is done."""

    state: AskedState
    reason: Name

    def error(self) -> R1ExpError:
        """Return the error that ends a step, or a run, for this reason."""
        return Preempted(self.reason) if self.state == "preempted" else Interrupted(self.reason)


def ask(folder: Path, request: StopRequest) -> None:
    """Ask the step in `folder` to save and end after its current optimizer step."""
    write_text(folder / _FILE, request.model_dump_json() + "\n")


def asked(folder: Path) -> StopRequest | None:
    """Return what was asked of the step in `folder`; None: to go on."""
    try:
        return StopRequest.model_validate_json((folder / _FILE).read_text(encoding="utf-8"), strict=True)
    except FileNotFoundError:
        return None


def withdraw(folder: Path) -> None:
    """Forget what an earlier start of the step was asked."""
    (folder / _FILE).unlink(missing_ok=True)
