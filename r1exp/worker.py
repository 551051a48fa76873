"""Entry point of a rank: `python -m r1exp.worker STEP_FOLDER`.

Reads the step, checks the number of ranks, runs the stage, and writes the status. Any scheduler that sets RANK,
WORLD_SIZE, MASTER_ADDR and MASTER_PORT can start it.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import get_args

from r1exp.addresses import reach_private_directly
from r1exp.distributed import is_main_process, local_world_size, rank, world_size
from r1exp.errors import ExitCode, NotFinite, R1ExpError, StepFailed
from r1exp.files import no_space_at, provide_cache
from r1exp.launcher.base import devices_here
from r1exp.runner.process import PARENT_VARIABLE, parent_is_gone
from r1exp.stage.step import Step, read_step
from r1exp.step.failure import failure_of, redirect_output, write_failure
from r1exp.step.full_disk import is_full, release
from r1exp.step.memory_peak import note_memory
from r1exp.step.ranks import hold_folder
from r1exp.step.status import Status, read_status, state_of
from r1exp.step.stop_request import RequestedState, StopRequest, request_stop, withdraw_stop
from r1exp.terminal import say

_PARENT_CHECK_SECONDS = 2.0  # seconds between checks that the parent still exists


def main(folder: Path) -> ExitCode:
    """Run the step in `folder` and return the exit code of this rank."""
    provide_cache()
    hold_folder(folder)
    step = read_step(folder)
    reach_private_directly(os.environ, [] if step.server is None else [step.server])
    redirect_output(folder, rank())
    _see_one_device()
    if PARENT_VARIABLE in os.environ:
        _end_with_parent(os.environ[PARENT_VARIABLE])
    elif step.config.stage is not None and step.config.stage.trains:
        _handle_scheduler_signals(folder)
    try:
        _check_world(step)
        return _run(step, folder)
    except Exception as error:  # noqa: BLE001 - any error of a library is written to status.json
        return _end_with(folder, error)


def _end_with(folder: Path, error: Exception) -> ExitCode:
    """Write the error that ended this rank to its log and to status.json; return the exit code."""
    if not isinstance(error, R1ExpError) and is_full(folder, error):
        error = StepFailed(f"{no_space_at(folder)} ({type(error).__name__}: {error})")
        release(folder)
    failure = failure_of(error, rank())
    say(failure.traceback or f"{type(error).__name__}: {failure.reason}\n", end="")
    state = state_of(error) if isinstance(error, R1ExpError) else "failed"
    if state == "failed":
        write_failure(folder, failure)
    failed_rank = failure.rank if state == "failed" else None
    checkpoint = error.good if isinstance(error, NotFinite) else _last_checkpoint(folder)
    status = Status(
        state=state,
        reason=failure.reason,
        rank=failed_rank,
        checkpoint=None if checkpoint is None else str(checkpoint.relative_to(folder)),
    )
    _write_status(folder, status)
    if state in get_args(RequestedState) and PARENT_VARIABLE in os.environ:
        # The parent reads status.json. For another exit code torchrun would kill ranks that are still saving.
        return ExitCode.DONE
    return error.exit_code if isinstance(error, R1ExpError) else ExitCode.FAILED


def _run(step: Step, folder: Path) -> ExitCode:
    if PARENT_VARIABLE not in os.environ and is_main_process():  # else the parent does it
        from r1exp.step.checkpoints import pass_over_damaged, remove_incomplete

        remove_incomplete(folder)
        for message in pass_over_damaged(folder):  # before the ranks connect: they wait for this one
            say(message)
    if step.config.model.quantization is None:
        # peft imports it where it is installed, which takes a second. None means: not installed.
        sys.modules["bitsandbytes"] = None  # type: ignore[assignment]
    if step.config.stage is not None and step.config.stage.trains:
        from r1exp.stage.unused_libraries import leave_out_unused  # imports transformers

        leave_out_unused(step.config)
    from r1exp.stage.run_stage import leave_ranks, run_stage

    status = run_stage(step, folder)
    leave_ranks()
    if is_main_process():
        note_memory(folder)
    _write_status(folder, status)
    return ExitCode.DONE


def _see_one_device() -> None:
    """Hide all GPUs but the first from a rank that is alone on its machine, before CUDA is initialized.

    transformers would train on all that it sees with DataParallel, in which TRL's trainers fail. Among several ranks each
    takes the one of its LOCAL_RANK.
    """
    if local_world_size() == 1:
        visible = devices_here()
        if len(visible) > 1:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible[0]


def _check_world(step: Step) -> None:
    """Raise StepFailed if the number of ranks is not the planned one."""
    found = world_size()
    if found != step.world_size:
        raise StepFailed(
            f"{step.world_size} ranks were planned, but {found} were started; "
            "start this step with the launch command that `r1exp plan --launch` shows"
        )


def _write_status(folder: Path, status: Status) -> None:
    """Write the status of the step: on rank 0 always, on another rank only if it fails first."""
    earlier = read_status(folder)
    is_first = earlier is None or earlier.state in ("running", "damaged")
    if is_first if status.state == "failed" else is_main_process():
        status.write(folder)


def _last_checkpoint(folder: Path) -> Path | None:
    from r1exp.step.checkpoints import last_checkpoint

    return last_checkpoint(folder)


def _handle_scheduler_signals(folder: Path) -> None:
    """Make SIGTERM and SIGUSR1 request that a training step saves and ends; used if there is no parent of r1exp."""
    if is_main_process():
        withdraw_stop(folder)

    def receive(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        request_stop(
            folder, StopRequest(state="preempted", reason=f"the scheduler needs the machine ({name})")
        )

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, receive)


def _end_with_parent(mark: str) -> None:
    """Exit when the process that started the run has ended, also after `kill -9`."""

    def watch() -> None:
        while not parent_is_gone(mark):
            time.sleep(_PARENT_CHECK_SECONDS)
        os._exit(int(ExitCode.INTERRUPTED))

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
