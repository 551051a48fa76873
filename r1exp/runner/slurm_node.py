"""Starts the ranks of one node: `python -m r1exp.runner.slurm_node STEP_FOLDER COMMAND...`, which srun runs on each.

It passes the number of the node to accelerate, and turns SLURM's signals, which would end the ranks, into a request
to save a checkpoint first. SLURM sends SIGTERM to every process of a step, so all but this one block it: a child
inherits that, whatever handlers it installs (torchrun's would kill the ranks). SIGKILL follows for processes that do
not end in time, and the ranks end with this process.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from r1exp.runner.process import PARENT_VARIABLE, parent_mark
from r1exp.step.stop_request import StopRequest, request_stop

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def main(folder: Path, command: Sequence[str]) -> int:
    """Run the ranks of this node to their end and return their exit status."""

    def receive(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        request_stop(
            folder, StopRequest(state="preempted", reason=f"the scheduler needs the machine ({name})")
        )

    for number in _SIGNALS:
        signal.signal(number, receive)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    environment = {**os.environ, PARENT_VARIABLE: parent_mark()}
    with subprocess.Popen(numbered(command), env=environment, start_new_session=True) as process:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        return process.wait()


def numbered(command: Sequence[str]) -> list[str]:
    """Return accelerate's command with this node's number, which only the node knows."""
    place = command.index("--main_process_port") if "--main_process_port" in command else None
    if place is None:
        return list(command)  # one process in all
    return [*command[:place], "--machine_rank", os.environ["SLURM_PROCID"], *command[place:]]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
