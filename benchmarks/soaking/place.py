"""A place: one scenario in a folder of its own. Its commands are typed again until each has ended with exit code 0."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from soaking.census import MARK, Census, Process, now_in_ticks
from soaking.scenarios import PORT_OF_ENDPOINT, Scenario

_PAUSE = (0.0, 4.0)  # seconds before a command is typed again
_ENDPOINT = Path(__file__).with_name("endpoint.py")


@dataclass
class Disturbance:
    """A kill, or a moment without room or without permission to write."""

    victim: str  # the kind of process, or of the moment
    how: str  # the signal
    after: float  # seconds since the place began
    survived: bool | None = None  # None: the place has not come to its end


@dataclass
class Command:
    """A command line and its starts so far."""

    arguments: tuple[str, ...]
    token: str
    process: subprocess.Popen[bytes] | None = None
    codes: list[int] = field(default_factory=list)
    type_at: float = 0.0  # time.monotonic() at which it is typed again
    ended: list[tuple[float, int]] = field(
        default_factory=list
    )  # starts to be checked: when, ended at which tick
    is_done: bool = False


class Place:
    """The folder, commands and processes of one scenario.

    Args:
        scenario: What runs.
        folder: Is created; the runs, the store and temporary files are in it.
        log: Folder of the commands' output, which no full disk concerns.
        random_numbers: Decides the pauses.
        census: Finds the processes.
        leaves: Seconds that what a command started may run after it.
    """

    def __init__(
        self,
        scenario: Scenario,
        folder: Path,
        log: Path,
        random_numbers: random.Random,
        census: Census,
        leaves: float,
    ) -> None:
        self.scenario, self.folder, self.log, self.leaves = scenario, folder, log, leaves
        self.begun = time.monotonic()
        self.disturbances: list[Disturbance] = []
        self.outlived: list[str] = []  # kinds of processes that ran on after their command
        self.unexpected: list[str] = []  # exit codes that no command of r1exp may have
        self._random, self._census = random_numbers, census
        for part in ("tmp", "cache", "store"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        log.mkdir(parents=True, exist_ok=True)
        self._endpoint: subprocess.Popen[bytes] | None = None
        self._endpoint_at = 0.0
        self._port = _free_port() if scenario.has_endpoint else 0
        self.commands = [
            Command(
                tuple(text.replace(PORT_OF_ENDPOINT, str(self._port)) for text in arguments),
                f"{folder.name}.{number}",
            )
            for number, arguments in enumerate(scenario.commands)
        ]

    @property
    def is_done(self) -> bool:
        """Whether every command has ended with exit code 0."""
        return all(command.is_done for command in self.commands)

    def tick(self) -> None:
        """Type what has ended again, and look for processes that outlived their command."""
        now = time.monotonic()
        if self.scenario.has_endpoint and not self.is_done:
            self._keep_endpoint(now)
        for number, command in enumerate(self.commands):
            if command.process is not None and command.process.poll() is not None:
                self._note_end(command, command.process.returncode, now)
            if command.process is None and not command.is_done and now >= command.type_at:
                self._type(command, number)
            self._check_outlived(command, now)

    def processes(self) -> list[Process]:
        """Return the running processes of the commands and of the endpoint."""
        tokens = [command.token for command in self.commands] + [self._endpoint_token]
        return [process for token in tokens for process in self._census.alive(token)]

    def end(self) -> None:
        """Kill whatever is left."""
        if self._endpoint is not None:
            self._endpoint.kill()
            self._endpoint.wait()
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        for command in self.commands:
            if command.process is not None:
                command.process.wait()
            self._census.forget(command.token)
        self._census.forget(self._endpoint_token)

    @property
    def _endpoint_token(self) -> str:
        return f"{self.folder.name}.endpoint"

    def _environment(self, token: str) -> dict[str, str]:
        own = {"TMPDIR": str(self.folder / "tmp"), "XDG_CACHE_HOME": str(self.folder / "cache"), MARK: token}
        quiet = {"WANDB_SILENT": "true", "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
        return {**os.environ, "OMP_NUM_THREADS": "1", **own, **quiet}

    def _type(self, command: Command, number: int) -> None:
        try:
            with (self.log / f"command-{number}.log").open("ab") as output:
                output.write(f"--- start {len(command.codes) + 1}\n".encode())
                output.flush()
                command.process = subprocess.Popen(
                    [sys.executable, "-m", "r1exp", *command.arguments],
                    cwd=self.folder, env=self._environment(command.token), stdin=subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        except OSError as error:  # the folder cannot be entered for a moment
            self.unexpected.append(f"not started: {error}")
            command.type_at = time.monotonic() + 1.0

    def _note_end(self, command: Command, code: int, now: float) -> None:
        command.process = None
        command.codes.append(code)
        command.is_done = code == 0
        command.type_at = now + self._random.uniform(*_PAUSE)
        command.ended.append((now + self.leaves, now_in_ticks()))
        if code == 1:
            self.unexpected.append(f"exit code 1 in start {len(command.codes)}")

    def _check_outlived(self, command: Command, now: float) -> None:
        while command.ended and now >= command.ended[0][0]:
            _, ticks = command.ended.pop(0)
            if self.scenario.is_job:
                continue
            for process in self._census.alive(command.token):
                if process.started <= ticks:
                    self.outlived.append(process.kind())
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)

    def _keep_endpoint(self, now: float) -> None:
        if self._endpoint is not None and self._endpoint.poll() is not None:
            self._endpoint, self._endpoint_at = None, now + self._random.uniform(*_PAUSE)
        if self._endpoint is None and now >= self._endpoint_at:
            self._endpoint = subprocess.Popen(
                [sys.executable, str(_ENDPOINT), str(self._port)],
                env={**os.environ, MARK: self._endpoint_token}, stdin=subprocess.DEVNULL,
            )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
