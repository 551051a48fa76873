"""Reads which process failed first from the report that torchrun prints last.

torch 2.13, `torch.distributed.elastic.multiprocessing.errors`: "Root Cause (first observed failure)". The report
includes failures that a rank cannot report itself: a `kill -9`, the kernel's out-of-memory killer, a crash in compiled
code.
"""

import re
import signal
from dataclasses import dataclass

from r1exp.launcher.kills import Kills

_ROOT = re.compile(
    r"Root Cause \(first observed failure\):.*?rank\s*: (\d+) .*?exitcode\s*: (-?\d+) \(pid: (\d+)\)",
    re.DOTALL,
)
_NODE_FAILURE = re.compile(r"^srun: error: Node failure on (\S+)", re.MULTILINE)
_KILLED_TASK = re.compile(r"^srun: error: (\S+): (tasks? \S+: Killed)", re.MULTILINE)
_OWN_LINE = re.compile(  # torchrun's warnings and errors, and the report of forked ranks
    r"^[EW]\d{4} .*torch/distributed/|^Root Cause \(first observed failure\):", re.MULTILINE
)


@dataclass(frozen=True)
class RootCause:
    """A process that failed."""

    rank: int
    exit_code: int  # negative: minus the signal that ended it
    pid: int

    def text(self, kills: Kills, is_here: bool) -> str:
        """Return how the process ended.

        Args:
            kills: What the kernel has killed since the processes were started.
            is_here: Whether it ran on this machine.
        """
        return ending(self.exit_code, self.pid, kills, is_here)


@dataclass(frozen=True)
class LostNode:
    """A machine of a SLURM job whose ranks ended without a message."""

    name: str
    how: str  # as srun says it

    def text(self) -> str:
        """Return what happened to the machine."""
        return f"node {self.name} was lost ({self.how})"


def ending(exit_code: int, pid: int | None, kills: Kills, is_here: bool) -> str:
    """Return how a process ended that left no message.

    Args:
        exit_code: As in `subprocess.Popen.returncode`.
        pid: Its id; None: unknown.
        kills: What the kernel has killed since it was started.
        is_here: Whether it ran on this machine.
    """
    if exit_code >= 0:
        return f"it ended with exit status {exit_code} and no message"
    name = signal.Signals(-exit_code).name
    return f"it was killed by {name}{kills.why(pid, is_here) if name == 'SIGKILL' else ''}"


def lost_node(log: str) -> LostNode | None:
    """Return the machine that srun reports as the first lost one; None if it reports none.

    Source: Slurm 22.05: "srun: error: Node failure on n2", "srun: error: n2: task 1: Killed".
    """
    found = _NODE_FAILURE.search(log)
    if found is not None:
        return LostNode(found[1], "srun: Node failure")
    found = _KILLED_TASK.search(log)
    return None if found is None else LostNode(found[1], f"srun: {found[2]}")


def root_cause(log: str) -> RootCause | None:
    """Return the first failure that torchrun names in `log`; None if it names none.

    Each machine has its own torchrun. One that only ended its processes because of another machine's failure names
    SIGTERM, so that other signals and exit statuses take precedence.
    """
    found = [RootCause(int(rank), int(code), int(pid)) for rank, code, pid in _ROOT.findall(log)]
    own = [cause for cause in found if cause.exit_code != -signal.SIGTERM]
    return next(iter(own or found), None)


def report_of(rank: int, exit_code: int, pid: int) -> str:
    """Return the part of torchrun's report that `root_cause` reads, for ranks that torchrun did not start."""
    return f"Root Cause (first observed failure):\n  rank      : {rank} (local_rank: {rank})\n  exitcode  : {exit_code} (pid: {pid})\n"


def before_report(log: str) -> str:
    """Return what the processes printed before the report of torchrun."""
    found = _OWN_LINE.search(log)
    return log if found is None else log[: found.start()]
