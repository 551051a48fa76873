"""Runs one command and ends everything that it started: `python -I -S keeper.py SOCKET PARENT GRACE -- COMMAND...`.

    r1exp --socket--> keeper ----> launcher agent ----> ranks ----> trackers, reward workers, engines, ...

`r1exp.launcher.process_tree` starts it for the processes of a step and for a vLLM server, and the fork server
(`r1exp.launcher.fork_server`) forks it. It imports the standard library only, and starts in 20 ms. No process of the command
outlives the command or r1exp, whichever is killed:

* The keeper is a subreaper: orphaned descendants become its children, also those with a process group or a session of
  their own. When the command has ended, descendants get `_LEAVE` seconds to end by themselves (a tracker that sends its
  last rows), then SIGTERM, and SIGKILL `GRACE` seconds later.
* When its parent has ended, which its own parent process id shows, or has closed the socket, it ends the command too.
* When the keeper itself is killed, the kernel kills the command (PR_SET_PDEATHSIG), and the parent kills the processes
  that it recorded (`process_tree.ProcessTree`).

Segments of shared memory that killed processes leave in /dev/shm are removed once the descendants have ended. A segment
belongs to them if it is newer than the keeper and one of them has mapped it, and is kept while any process maps it.
The keeper writes their names to a file beside them and holds a lock on it; where the keeper was killed, the next one
that starts finds the file without its lock and removes the segments (`remove_abandoned`).

The parent writes `t` (send SIGTERM to the command) or `k` (end everything now); the keeper writes its own process
id and the command's, and at the end its exit status as `subprocess.Popen.returncode` has it, one line each.
"""

import ctypes
import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, NoReturn

SHARED = "/dev/shm"
RECORD = "r1exp-segments-"  # files in SHARED that name the segments of one keeper
_LEAVE = 2.0  # seconds that descendants get after the command has ended by itself
_TRACKERS = 2.0  # seconds that Python's resource trackers get to remove the segments of killed processes
_POLL = 0.1  # seconds
_UNCLAIMED = (
    3.0  # seconds after which a new segment that no descendant has mapped is known to be another program's
)
_DIES = (
    30.0  # seconds after which a process that SIGKILL did not end, as one that waits for a disk, is given up
)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_PR_SET_NAME = 15
_EXEC_FAILED = 127
_RESOURCE_TRACKER = b"from multiprocessing.resource_tracker import main"  # part of its command line


def ticks_of(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it has ended, also if nobody waited for it.

    Setting the clock does not change this number, so that it identifies a process together with its id.
    """
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZXx" else int(fields[19])


def _stat(pid: int | str) -> list[str] | None:
    """Return /proc/PID/stat from the third field on, the state; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def descendants(root: int) -> dict[int, int]:
    """Return every running descendant of a process: id -> start in clock ticks."""
    children: dict[int, list[tuple[int, int]]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        fields = _stat(name) if name.isdecimal() else None
        if fields is not None:
            # A zombie has no children, and is found all the same: it has ended.
            children.setdefault(int(fields[1]), []).append(
                (int(name), -1 if fields[0] in "ZXx" else int(fields[19]))
            )
    found, waiting = {}, [root]
    while waiting:
        for pid, started in children.get(waiting.pop(), ()):
            waiting.append(pid)
            if started >= 0:
                found[pid] = started
    return found


def with_variable(name: str, value: str) -> Iterator[int]:
    """Yield the running processes that were started with a variable in their environment."""
    entry = f"{name}={value}".encode()
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc") if os.path.isdir("/proc") else ())):
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if entry in file.read().split(b"\0") and ticks_of(pid) is not None:
                yield pid


def command_of(pid: int) -> bytes:
    """Return the command line of a process; empty if it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


class Segments:
    """The segments of shared memory that the descendants of this process have created."""

    def __init__(self) -> None:
        self._others = set(segments())  # older ones, and those of other programs
        self._new: dict[int, float] = {}  # inode -> when it was first seen, seconds of the monotonic clock
        self._own: dict[int, str] = {}  # inode -> name
        self._record: IO[str] | None = None  # open, and locked, as long as this process runs
        self._path = f"{SHARED}/{RECORD}{os.getpid()}-{time.time_ns()}"

    def look(self) -> None:
        """Find new segments that a descendant has mapped."""
        now, found = time.monotonic(), segments()
        for inode in found:
            if inode not in self._others and inode not in self._own:
                self._new.setdefault(inode, now)
        renamed = {inode: name for inode, name in found.items() if self._own.get(inode, name) != name}
        if renamed:  # the C library makes a semaphore under another name first
            self._own |= renamed
            self._write()
        if not self._new:
            return
        claimed = set(mapped(descendants(os.getpid())))
        for inode, since in list(self._new.items()):
            if inode in claimed and inode in found:
                self._own[inode] = found[inode]
                self._write()
            elif now - since > _UNCLAIMED or inode not in found:
                self._others.add(inode)
            else:
                continue
            del self._new[inode]

    def remove(self) -> None:
        """Remove those that no process maps."""
        remove_unmapped(self._own)
        if self._record is not None:
            with suppress(OSError):
                os.unlink(self._path)
            self._record.close()

    def _write(self) -> None:
        with suppress(OSError):  # a full /dev/shm
            if self._record is None:
                self._record = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+")
                fcntl.flock(self._record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._record.seek(0)
            self._record.truncate()
            json.dump({"namespace": namespace(), "segments": list(self._own.items())}, self._record)
            self._record.flush()


def segments() -> dict[int, str]:
    """Return the segments of this user: inode -> name."""
    found = {}
    with suppress(OSError), os.scandir(SHARED) as entries:
        for entry in entries:
            with suppress(OSError):
                about = entry.stat(follow_symlinks=False)
                if about.st_uid == os.geteuid() and not entry.name.startswith(RECORD):
                    found[about.st_ino] = entry.name
    return found


def mapped(pids: Iterable[int]) -> Iterator[int]:
    """Yield the inodes of the files of /dev/shm that processes have mapped."""
    for pid in pids:
        with suppress(OSError), open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            for line in file:
                if f" {SHARED}/" in line:
                    yield int(line.split(maxsplit=5)[4])


def remove_unmapped(own: dict[int, str]) -> None:
    """Remove segments that still have their inode, and that no process maps."""
    left = {inode: name for inode, name in segments().items() if own.get(inode) == name}
    if left:
        everyone = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
        for inode in mapped(everyone):
            left.pop(inode, None)
    for name in left.values():
        with suppress(OSError):
            os.unlink(f"{SHARED}/{name}")


def namespace() -> str:
    """Return the namespace of process ids, in which `mapped` sees every process."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def remove_abandoned() -> None:
    """Remove the segments of keepers that were killed, and of their processes."""
    try:
        names = [name for name in os.listdir(SHARED) if name.startswith(RECORD)]
    except OSError:  # not on Linux
        return
    for name in names:
        path = f"{SHARED}/{name}"
        with suppress(OSError, ValueError), os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = json.load(file)
            if os.fstat(file.fileno()).st_uid == os.geteuid() and content["namespace"] == namespace():
                remove_unmapped({int(inode): str(segment) for inode, segment in content["segments"]})
                os.unlink(path)


class Keeper:
    """Watches a command that was forked from this process.

    Args:
        control: File descriptor of the socket to r1exp.
        child: The process id of the command.
        grace: Seconds between SIGTERM and SIGKILL for what the command has left.
        segments: Made before the command was forked.
        parent: The process whose end ends the command too; None: only the end of the socket's other side does.
    """

    def __init__(
        self, control: int, child: int, grace: float, segments: Segments, parent: int | None = None
    ) -> None:
        self._control, self._parent, self._grace, self._child = control, parent, grace, child
        self._segments = segments
        self._status: int | None = None  # of the command, when it has ended
        self._is_connected = True
        self._must_end = False  # at once
        self._send(f"{os.getpid()} {child}")
        self._ended, wakes = os.pipe()  # a byte for each signal, SIGCHLD included
        for end in (self._ended, wakes):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)

    def run(self) -> None:
        """Watch the command to its end, and end everything that it started."""
        while self._status is None and not self._must_end:
            self._wait()
        if self._status is None or self._status < 0 or not self._leave(_LEAVE):
            self._end()
        self._segments.remove()
        self._send(str(self._status))

    def _wait(self) -> None:
        """Wait a moment; answer the parent, and reap what has ended."""
        poll = select.poll()
        poll.register(self._ended, select.POLLIN)
        if self._is_connected:
            poll.register(self._control, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(_POLL * 1000)}
        if self._ended in ready:
            os.read(self._ended, 64)
        if self._control in ready:
            self._receive()
        if self._parent is not None and os.getppid() != self._parent:
            self._must_end = True
        self._segments.look()
        self._reap()

    def _receive(self) -> None:
        try:
            data = os.read(self._control, 64)
        except OSError:
            data = b""
        self._is_connected = bool(data)
        if not data or b"k" in data:
            self._must_end = True
        elif b"t" in data:
            self.forward()

    def forward(self, *_: object) -> None:
        """Send SIGTERM to the command; also the handler of the signals that this process receives."""
        with suppress(ProcessLookupError):
            os.killpg(self._child, signal.SIGTERM)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._child:
                    self._status = os.waitstatus_to_exitcode(status)

    def _alive(self) -> dict[int, int]:
        self._reap()
        return descendants(os.getpid())

    def _leave(self, seconds: float) -> bool:
        """Wait until all descendants have ended; return whether they have."""
        end = time.monotonic() + seconds
        while self._alive():
            if time.monotonic() > end:
                return False
            self._segments.look()
            time.sleep(_POLL / 2)
        return True

    def _end(self) -> None:
        """End every descendant: SIGTERM, then SIGKILL, resource trackers last."""
        for number, seconds in ((signal.SIGTERM, self._grace), (signal.SIGKILL, _TRACKERS)):
            for pid in self._alive():
                if number == signal.SIGTERM or _RESOURCE_TRACKER not in command_of(pid):
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)
            if self._leave(seconds):
                break
        end = time.monotonic() + _DIES
        while (left := self._alive()) and time.monotonic() < end:
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL / 5)
        self._reap()

    def _send(self, line: str) -> None:
        with suppress(OSError):
            os.write(self._control, f"{line}\n".encode())


def name_process(name: str) -> None:
    """Set what `ps -o comm` and `top` show for this process: 15 characters."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def adopt() -> Segments:
    """Make this process the parent of orphaned descendants, and remove what killed keepers have left.

    Returns:
        The segments of shared memory that its descendants will create.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    remove_abandoned()
    return Segments()


def fork_bound() -> int:
    """Fork a process with a session of its own that the kernel kills when this one ends; return its id, and 0 in it."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(_EXEC_FAILED)
    return child


def watch(control: int, child: int, grace: float, segments: Segments, parent: int | None = None) -> None:
    """Watch a forked command to its end, as `Keeper`; signals that this process receives are passed on to it."""
    keeper = Keeper(control, child, grace, segments, parent)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, keeper.forward)
    keeper.run()


def main() -> None:
    """Run the command that the arguments name."""
    control, parent, grace = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    segments = adopt()
    child = fork_bound()
    if child == 0:
        _execute(control, sys.argv[5:])
    watch(control, child, grace, segments, parent)


def _execute(control: int, command: list[str]) -> NoReturn:
    """Replace this process by a command."""
    os.close(control)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(_EXEC_FAILED)


if __name__ == "__main__":
    main()
