"""Starts the ranks of one node: `python -m r1exp.runner.slurm_node STEP_FOLDER COMMAND...`, which srun runs on each.

It passes the index of the node to accelerate. It converts SLURM's signals, which would end the ranks, into a request to
save a checkpoint first. SLURM sends SIGTERM to every process of a step, so that all processes except this one block
it: children inherit the signal mask even if they install handlers (torchrun's would kill the ranks). SLURM sends
SIGKILL to processes that do not end in time, and the ranks, with all that they started, end with this process.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from r1exp.launcher.process_tree import ProcessTree
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
    tree = ProcessTree(numbered(command), {**os.environ, PARENT_VARIABLE: parent_mark()})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    status = tree.wait()
    assert status is not None
    return status


def numbered(command: Sequence[str]) -> list[str]:
    """Return accelerate's command with the index of this node, which is known only on the node."""
    place = command.index("--main_process_port") if "--main_process_port" in command else None
    if place is None:
        return list(command)  # a single process
    return [*command[:place], "--machine_rank", os.environ["SLURM_PROCID"], *command[place:]]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
