"""Starts a command with a keeper (`r1exp.launcher.keeper`), so that nothing that the command started outlives it.

The keeper ends the processes of the command; where the keeper itself was killed, the tree does.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from r1exp.launcher import keeper

TREE_VARIABLE = (
    "R1EXP_TREE"  # names the command that a process belongs to, also of a process without a parent
)
GRACE = 2.0  # seconds between SIGTERM and SIGKILL for what a command has left, as a tracker that sends its last rows
_SHORT = 0.01  # seconds, the shortest pause
_RECORD = 1.0  # seconds between two records of the descendants
_KEEPER_STARTS = 30.0  # seconds
_DIES = (
    10.0  # seconds after which a process that SIGKILL did not end, as one that waits for a disk, is given up
)


class Tree(ABC):
    """Everything below a keeper, which says through a socket what the command does.

    Args:
        control: The socket to the keeper.
        token: Names the command in the environment of its processes (TREE_VARIABLE).
    """

    def __init__(self, control: socket.socket, token: str) -> None:
        self._control, self._token = control, token
        self._older = set(keeper.segments())  # inodes of the shared memory of other programs
        self._received = b""
        self._recorded: dict[int, int] = {}  # descendants of the keeper: id -> start in clock ticks
        self._next_record = 0.0
        self.returncode: int | None = None  # of the command, as in `subprocess.Popen`
        self.keeper_pid = 0
        self.pid = 0  # of the command, the leader of a process group; 0: the keeper was killed

    def poll(self) -> int | None:
        """Return the exit status of the command once all of its processes have ended; None before."""
        if self.returncode is None:
            if self._keeper_runs():
                self._record()
            else:
                self.returncode = self._finish()
        return self.returncode

    @abstractmethod
    def _keeper_runs(self) -> bool:
        """Whether the keeper runs; reads what it has written."""

    def _know(self) -> bool:
        """Read the process ids that the keeper writes first; return whether they have been received."""
        if b"\n" not in self._received:
            return False
        first, _, self._received = self._received.partition(b"\n")
        self.keeper_pid, self.pid = map(int, first.split())
        return True

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait until all processes have ended; return the exit status, or None after `seconds`."""
        end = None if seconds is None else time.monotonic() + seconds
        while self.poll() is None and (end is None or time.monotonic() < end):
            time.sleep(0.02)
        return self.returncode

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until the keeper has something to say."""
        begun = time.monotonic()
        with suppress(OSError, ValueError):  # it is closed
            select.select([self._control], [], [], seconds)
        time.sleep(max(0.0, min(_SHORT, seconds - (time.monotonic() - begun))))

    def terminate(self) -> None:
        """Send SIGTERM to the process group of the command."""
        self._tell(b"t")

    def end(self) -> int:
        """End every process of the command now; return its exit status."""
        self._tell(b"k")
        status = self.wait()
        assert status is not None
        return status

    def _tell(self, order: bytes) -> None:
        with suppress(OSError):  # the keeper has ended
            self._control.sendall(order)

    def _finish(self) -> int:
        """Return the exit status that the keeper wrote; end what a keeper without one has left."""
        with suppress(OSError):
            while data := self._control.recv(64):
                self._received += data
        self._control.close()
        line = self._received.strip()
        if line.lstrip(b"-").isdigit():
            return int(line)
        self._end_recorded()
        return -signal.SIGKILL

    def _record(self) -> None:
        """Record the descendants, in case the keeper is killed."""
        if self.keeper_pid and time.monotonic() >= self._next_record:
            self._recorded |= keeper.descendants(self.keeper_pid)
            self._next_record = time.monotonic() + _RECORD

    def _end_recorded(self) -> None:
        """Kill every process of the command, found by its ancestors or by its environment."""
        end, own = time.monotonic() + _DIES, dict[int, str]()
        while (left := self._left()) and time.monotonic() < end:
            claimed = set(keeper.mapped(left)) - self._older
            own |= {inode: name for inode, name in keeper.segments().items() if inode in claimed}
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        keeper.remove_unmapped(own)
        keeper.remove_abandoned()  # what it recorded of processes that have ended before

    def _left(self) -> set[int]:
        known = {pid for pid, ticks in self._recorded.items() if keeper.ticks_of(pid) == ticks}
        below = {child: ticks for pid in known for child, ticks in keeper.descendants(pid).items()}
        self._recorded = {pid: self._recorded[pid] for pid in known} | below
        return known | set(below) | set(keeper.with_variable(TREE_VARIABLE, self._token))


class ProcessTree(Tree):
    """A running command, started with a keeper of its own, and everything that it starts.

    Args:
        command: Its arguments.
        environment: All of its variables.
        output: File that it writes to.
        grace: Seconds between SIGTERM and SIGKILL for processes that are left when it has ended.

    Raises:
        OSError: the keeper cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: IO[bytes] | None = None,
        grace: float = GRACE,
    ) -> None:
        control, theirs = socket.socketpair()
        super().__init__(control, uuid.uuid4().hex)
        with theirs:
            arguments = [str(theirs.fileno()), str(os.getpid()), str(grace), "--", *command]
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, *arguments],
                env={**environment, TREE_VARIABLE: self._token},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C signals only r1exp
            )
        self.keeper_pid = self._keeper.pid
        control.settimeout(_KEEPER_STARTS)
        with suppress(OSError):
            while not self._know() and (data := control.recv(64)):
                self._received += data

    def _keeper_runs(self) -> bool:
        return self._keeper.poll() is None
