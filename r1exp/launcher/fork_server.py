"""A process that has imported what a step needs, and forks the processes of each step: the loop of the fork server.

    r1exp --Unix socket--> fork server
      └── the same connection --> keeper (forked for each step) --> rank, or the agent of several ranks

Starting Python with torch, transformers and TRL takes longer than a short step. A forked process has the same modules and
environment as a fresh one, and differs from it in nothing that a step reads: it gets the environment, the working directory, the
CPU affinity and the log of the process that requests it. The server itself computes nothing, has one thread and
never initializes CUDA. It serves one set of environment variables, because libraries read some of them when they are imported.

It ends with its owner, the process that made its folder, or when that folder is removed. `r1exp.launcher.fork_client` starts it;
`r1exp.worker_server` is its entry point. It imports the standard library only.
"""

import atexit
import gc
import io
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from r1exp.launcher import keeper

HEADER = struct.Struct("!I")  # bytes of the request that follows, in JSON
_POLL = 1.0  # seconds between checks that the owner runs and that the folder of the socket exists
_PATIENCE = 30.0  # seconds that a connected process may take to send its request


@dataclass(frozen=True)
class Request:
    """What a forked process runs, and with what."""

    arguments: list[str]  # after `python -m`
    environment: dict[str, str]  # all of it
    folder: str  # working directory
    umask: int
    cores: list[int]  # CPU affinity; empty: as it is
    grace: float  # seconds between SIGTERM and SIGKILL for what is left

    def text(self) -> bytes:
        """Return the request as it is sent."""
        data = json.dumps(asdict(self)).encode()
        return HEADER.pack(len(data)) + data


@contextmanager
def ending_with(path: Path, owner: tuple[int, int]) -> Iterator[None]:
    """End this process as soon as it is useless, also within the block: imports take 10 s or more on a loaded machine.

    Args:
        path: Of the socket.
        owner: As for `serve`.
    """

    def check(*_: object) -> None:
        if not _is_needed(path, owner):
            os._exit(0)

    before = signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, _POLL, _POLL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _is_needed(path: Path, owner: tuple[int, int]) -> bool:
    """Whether the owner runs and the socket exists; removes the folder of an owner that has ended."""
    if keeper.ticks_of(owner[0]) != owner[1]:
        shutil.rmtree(path.parent, ignore_errors=True)
    return path.exists()


def serve(listener: socket.socket, path: Path, owner: tuple[int, int]) -> Request:
    """Fork a keeper and a process for each request; return only in a forked process, which runs the request.

    Args:
        listener: The socket.
        path: Its path.
        owner: The process with which this one ends: its id, and its start in clock ticks.

    Raises:
        SystemExit: the owner has ended, or the socket was removed.
    """
    keeper.name_process("r1exp-server")
    gc.freeze()  # forked processes share the pages of what is imported, and do not look through it
    while _is_needed(path, owner):
        is_requested = bool(select.select([listener], [], [], _POLL)[0])
        _reap()
        if is_requested and (request := _answer(listener)) is not None:
            gc.enable()
            return request
    raise SystemExit(0)


def _answer(listener: socket.socket) -> Request | None:
    """Accept a connection and fork its keeper; return None in the server, the request in the process that runs it."""
    connection, _ = listener.accept()
    if os.fork():
        connection.close()
        return None
    listener.close()
    request = _received(connection)
    if select.select([connection], [], [], 0)[0]:  # it was closed, or the step was ended, meanwhile
        os._exit(1)
    control = connection.detach()
    segments = keeper.adopt()
    child = keeper.fork_bound()
    if child:
        keeper.name_process("r1exp-keeper")
        keeper.watch(control, child, request.grace, segments)
        os._exit(0)  # without the exit handlers of what is imported
    os.close(control)
    keeper.name_process("r1exp-rank")
    return request


def _received(connection: socket.socket) -> Request:
    """Return the request, and become what it says; ends this process if there is none."""
    connection.settimeout(_PATIENCE)
    try:
        header, descriptors, _, _ = socket.recv_fds(connection, HEADER.size, 1)
        (left,) = HEADER.unpack(header)
        data = b""
        while len(data) < left:
            part = connection.recv(left - len(data))
            if not part:
                os._exit(1)
            data += part
    except (OSError, struct.error):
        os._exit(1)
    connection.settimeout(None)
    os.setsid()
    for stream in (1, 2):
        os.dup2(descriptors[0], stream)
    os.close(descriptors[0])
    request = Request(**json.loads(data))
    _become(request)
    return request


def _become(request: Request) -> None:
    """Take over the environment of the process that requests a step."""
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    os.umask(request.umask)
    if request.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request.cores)
    tempfile.tempdir = None  # found again from TMPDIR


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def leave(code: int) -> NoReturn:
    """End a forked process as `sys.exit` would, except that what was imported is not taken apart, which takes half a second.

    Threads are joined and exit handlers called, as the standard library ends the processes that it forks
    (multiprocessing.popen_fork); files that are still open are flushed too.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    writers = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    opened = [each for each in gc.get_objects() if issubclass(type(each), writers)]
    for file in (*opened, sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or its disk is full
            file.flush()
    os._exit(code)
