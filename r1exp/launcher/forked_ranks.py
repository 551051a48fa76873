"""Forks the ranks of a step that several processes execute, in place of torchrun, which imports torch again in each.

accelerate's own launcher makes the environment, from the same arguments as in a fresh process; torchrun's variables are
added. As with torchrun (torch 2.13) this process, the agent, holds the store at which the ranks meet, and ends the others when
one fails.
"""

import os
import signal
import socket
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from r1exp.launcher import keeper
from r1exp.launcher.base import loopback
from r1exp.launcher.torchrun import report_of

_POLL = 0.05  # seconds
_GRACE = 30.0  # seconds between SIGTERM and SIGKILL, as torchrun's


def fork_ranks(arguments: Sequence[str]) -> list[str]:
    """Fork the ranks; return in each of them the arguments of its module. The calling process watches them and never returns.

    Args:
        arguments: Of accelerate's launcher.
    """
    environment, options = _prepared(arguments)
    host = loopback()
    listener = _listener(host, int(options.master_port or 0))
    size = int(options.nproc_per_node)
    shared = environment | {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(listener.getsockname()[1]),
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "ROLE_NAME": "default",
        "ROLE_WORLD_SIZE": str(size),
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    ranks: dict[int, int] = {}
    for rank in range(size):
        child = keeper.fork_bound()
        if child == 0:
            listener.close()
            number = str(rank)
            os.environ.clear()
            os.environ.update(shared | {"RANK": number, "LOCAL_RANK": number, "ROLE_RANK": number})
            return [options.training_script, *options.training_script_args]
        ranks[child] = rank
    keeper.name_process("r1exp-agent")
    return _Agent(ranks).watch(host, listener)


def _prepared(arguments: Sequence[str]) -> tuple[dict[str, str], Namespace]:
    """Return the environment in which accelerate's launcher would call torchrun, and the options that it would pass on."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed import run as torchrun

    found: list[tuple[dict[str, str], Namespace]] = []
    run, torchrun.run = torchrun.run, lambda options: found.append((dict(os.environ), options))
    try:
        launch_command(launch_command_parser().parse_args(list(arguments)))
    finally:
        torchrun.run = run
    (prepared,) = found
    return prepared


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens on loopback, at another port if that one is taken, as accelerate does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=4096)
    except OSError:
        return socket.create_server((host, 0), family=family, backlog=4096)


class _Agent:
    """Watches the ranks.

    Args:
        ranks: Process id -> rank.
    """

    def __init__(self, ranks: dict[int, int]) -> None:
        self._running = dict(ranks)
        self._ranks = ranks
        self._until: float | None = None  # when ranks that do not end are killed
        self._first: tuple[int, int] | None = None  # process id and exit status of the first that failed

    def watch(self, host: str, listener: socket.socket) -> NoReturn:
        """Hold the store of the rendezvous until the last rank has ended, and exit."""
        from torch.distributed import TCPStore

        signal.signal(signal.SIGTERM, self._stop)
        address, port = host, listener.getsockname()[1]
        store = TCPStore(
            address, port, None, True, wait_for_workers=False, master_listen_fd=listener.detach()
        )
        while self._running:
            self._reap()
            if self._until is not None and time.monotonic() > self._until:
                self._send(signal.SIGKILL)
            time.sleep(_POLL)
        del store
        if self._first is not None:
            pid, status = self._first
            os.write(2, report_of(self._ranks[pid], status, pid).encode())
        os._exit(0 if self._first is None and self._until is None else 1)

    def _reap(self) -> None:
        for pid in list(self._running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._running[pid]
                code = os.waitstatus_to_exitcode(status)
                if code and self._first is None:
                    # After a signal to this process the ranks end by it, and none of them has failed first.
                    self._first = None if self._until is not None else (pid, code)
                    self._stop()

    def _stop(self, number: int | None = None, frame: FrameType | None = None) -> None:
        """Send SIGTERM to the ranks; also the handler of this process for it."""
        del number, frame
        if self._until is None:
            self._until = time.monotonic() + _GRACE
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        for pid in self._running:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
