"""What srun starts on each node of a step: `python -m r1exp.runner.slurm_node STEP_FOLDER COMMAND...`.

It starts the node's ranks and says which of the nodes this is. Where SLURM's signals would have ended the ranks,
they now ask them to save a checkpoint first. SLURM sends SIGTERM to every process of a step, so all but this one
block it: a child inherits that, whatever handlers it installs (torchrun's would kill the ranks). SIGKILL follows
for whoever does not end in time, and the ranks end with this process.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from r1exp.runner.process import PARENT_VARIABLE, parent_mark
from r1exp.step.stop_request import StopRequest, ask

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def main(folder: Path, command: Sequence[str]) -> int:
    """Run the ranks of this node to their end and return their exit status."""

    def hear(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        ask(folder, StopRequest(state="preempted", reason=f"the scheduler wants the machine ({name})"))

    for number in _SIGNALS:
        signal.signal(number, hear)
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
