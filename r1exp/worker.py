"""The child's door: `python -m r1exp.worker STEP_FOLDER`, once per rank.

Reads the frozen step, checks that the promised ranks are there, does the work, and says how it
ended. Any scheduler that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT can start it.
"""

import os
import sys
import threading
import time
import traceback
from pathlib import Path

from r1exp.errors import ExitCode, R1ExpError, StepFailed
from r1exp.runner.process import PARENT_VARIABLE, parent_is_gone
from r1exp.step.frozen import Step, read_step
from r1exp.step.status import Status, read_status, state_of

_LOOK_EVERY = 2.0  # seconds between looks at the parent


def main(folder: Path) -> ExitCode:
    """Carry out the step in `folder` and return the exit code of this rank."""
    _end_with_parent()
    step = read_step(folder)
    try:
        _check_world(step)
        return _do(step, folder)
    except R1ExpError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        _tell(folder, Status(state=state_of(error), reason=str(error), checkpoint=_last_checkpoint(folder)))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the border: whatever a library raises ends in status.json
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}; the traceback is in {folder / 'log.txt'}"
        _tell(folder, Status(state="failed", reason=reason, checkpoint=_last_checkpoint(folder)))
        return ExitCode.FAILED


def _do(step: Step, folder: Path) -> ExitCode:
    from r1exp.stage.run import run_stage

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
    """Write how the step ended: rank 0 what it came to, another rank only that it failed first."""
    if os.environ.get("RANK", "0") == "0":
        status.write(folder)
        return
    earlier = read_status(folder)
    if status.state != "done" and (earlier is None or earlier.state == "running"):
        status.write(folder)


def _last_checkpoint(folder: Path) -> str | None:
    from r1exp.step.checkpoints import last_checkpoint

    found = last_checkpoint(folder)
    return None if found is None else str(found.relative_to(folder))


def _end_with_parent() -> None:
    """Leave when the process that started the run is gone, `kill -9` included."""
    mark = os.environ.get(PARENT_VARIABLE)
    if mark is None:
        return

    def watch() -> None:
        while not parent_is_gone(mark):
            time.sleep(_LOOK_EVERY)
        os._exit(int(ExitCode.INTERRUPTED))

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
