"""The child's door: `python -m r1exp.worker STEP_FOLDER`, once per rank.

Reads the frozen step, checks that the promised ranks are there, does the work, and says how it
ended. Any scheduler that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT can start it.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import get_args

from r1exp.errors import ExitCode, R1ExpError, StepFailed
from r1exp.runner.process import PARENT_VARIABLE, parent_is_gone
from r1exp.stage.step import Step, read_step
from r1exp.step.failure import failure_of, note_failure, print_apart
from r1exp.step.status import Status, read_status, state_of
from r1exp.step.stop_request import AskedState, StopRequest, ask, withdraw

_LOOK_EVERY = 2.0  # seconds between looks at the parent


def main(folder: Path) -> ExitCode:
    """Carry out the step in `folder` and return the exit code of this rank."""
    step = read_step(folder)
    print_apart(folder, _rank())
    if PARENT_VARIABLE in os.environ:
        _end_with_parent(os.environ[PARENT_VARIABLE])
    elif step.config.stage is not None and step.config.stage.trains:
        _hear_the_scheduler(folder)
    try:
        _check_world(step)
        return _do(step, folder)
    except Exception as error:  # noqa: BLE001 - the border: whatever a library raises ends in status.json
        return _give_up(folder, error)


def _give_up(folder: Path, error: Exception) -> ExitCode:
    """Say how this rank ended, on paper and in status.json."""
    failure = failure_of(error, _rank())
    sys.stderr.write(failure.traceback or f"{type(error).__name__}: {failure.reason}\n")
    state = state_of(error) if isinstance(error, R1ExpError) else "failed"
    if state == "failed":
        note_failure(folder, failure)
    rank = failure.rank if state == "failed" else None
    _tell(folder, Status(state=state, reason=failure.reason, rank=rank, checkpoint=_last_checkpoint(folder)))
    if state in get_args(AskedState) and PARENT_VARIABLE in os.environ:
        # The parent reads status.json. torchrun would take another code for a crash, and kill ranks that still write.
        return ExitCode.DONE
    return error.exit_code if isinstance(error, R1ExpError) else ExitCode.FAILED


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _do(step: Step, folder: Path) -> ExitCode:
    from r1exp.stage.unused_libraries import leave_out_unused

    if step.config.stage is not None and step.config.stage.trains:
        leave_out_unused(step.config)
    from r1exp.stage.run_stage import run_stage

    status = run_stage(step, folder)
    _tell(folder, status)
    return ExitCode.DONE


def _check_world(step: Step) -> None:
    """Refuse to train alone, or in the wrong company, what was planned for `world_size` ranks."""
    found = int(os.environ.get("WORLD_SIZE", "1"))
    if found != step.world_size:
        raise StepFailed(
            f"{step.world_size} ranks were promised and {found} are here; "
            "start this step with the launch command that `r1exp plan` shows"
        )


def _tell(folder: Path, status: Status) -> None:
    """Write how the step ended: rank 0 what it came to, and any rank that it failed first."""
    earlier = read_status(folder)
    is_first = earlier is None or earlier.state == "running"
    if is_first if status.state == "failed" else _rank() == 0:
        status.write(folder)


def _last_checkpoint(folder: Path) -> str | None:
    from r1exp.step.checkpoints import last_checkpoint

    found = last_checkpoint(folder)
    return None if found is None else str(found.relative_to(folder))


def _hear_the_scheduler(folder: Path) -> None:
    """Let SIGTERM and SIGUSR1 ask a training step to save and end, where no parent of ours does it."""
    if os.environ.get("RANK", "0") == "0":
        withdraw(folder)

    def hear(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        ask(folder, StopRequest(state="preempted", reason=f"the scheduler wants the machine ({name})"))

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, hear)


def _end_with_parent(mark: str) -> None:
    """Leave when the process that started the run is gone, `kill -9` included."""

    def watch() -> None:
        while not parent_is_gone(mark):
            time.sleep(_LOOK_EVERY)
        os._exit(int(ExitCode.INTERRUPTED))

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
