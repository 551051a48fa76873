"""What srun starts on each node of a step: `python -m r1exp.runner.node STEP_FOLDER COMMAND...`, stdlib speed.

It starts the node's ranks in a session of their own and says which of the nodes this is. SLURM sends its
signals to the process it started, which is this one: where they would have ended the ranks, they now ask
them to save a checkpoint first. When this process is killed, the ranks end too.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from r1exp.runner.process import PARENT_VARIABLE, parent_mark
from r1exp.step.request import StopRequest, ask


def main(folder: Path, command: Sequence[str]) -> int:
    """Run the ranks of this node to their end and return their exit status."""

    def hear(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        ask(folder, StopRequest(state="preempted", reason=f"the scheduler wants the machine ({name})"))

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, hear)
    environment = {**os.environ, PARENT_VARIABLE: parent_mark()}
    with subprocess.Popen(numbered(command), env=environment, start_new_session=True) as process:
        return process.wait()


def numbered(command: Sequence[str]) -> list[str]:
    """Return accelerate's command with this node's number, which only the node knows."""
    place = command.index("--main_process_port") if "--main_process_port" in command else None
    if place is None:
        return list(command)  # one process in all
    return [*command[:place], "--machine_rank", os.environ["SLURM_PROCID"], *command[place:]]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
