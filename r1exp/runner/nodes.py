"""Lets several nodes run one step together: the first owns the run, the others join each of its steps (launcher=torchrun).

The nodes share a disk and type the same command. They agree through files in `<run>/nodes/`:

    node-1.json   {"token": ...}                  a node that waits; written again every second
    first.json    {"beat": 7, "members": {"1": token}, "launch": id, "step": "04-rl", "code": null}

The first node removes the files of earlier nodes, and counts a node as present when its file comes (back). Its own file is
written again every second with a larger `beat`. A node obeys it only where `members` has its own token, so that what an
earlier start left is never taken for an order. When `launch` has another value, the node starts its ranks of `step`. `code` is the exit code of the run, with which every node ends.
"""

import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from r1exp.errors import ExitCode, Refused, StepFailed
from r1exp.files import read_json_object, write_json
from r1exp.launcher.base import Launcher
from r1exp.launcher.process_tree import ProcessTree
from r1exp.paths import RunPaths, StepPaths
from r1exp.plan.run_plan import PlanStep, RunPlan, read_plan
from r1exp.runner.process import PARENT_VARIABLE, inherited_environment, parent_mark
from r1exp.stage.step import read_step
from r1exp.step.stop_request import StopRequest, request_stop, requested_stop
from r1exp.terminal import say

_BEAT = 1.0  # seconds between two signs of life
_POLL = 0.2  # seconds between two looks at the files
_LATE = 15.0  # seconds that a run which has ended waits for nodes that have not come
_LEAVE = 20.0  # seconds that ranks get to end after the first node's have


class FirstNode:
    """The side of the node that owns the run.

    Args:
        run: The run directory.
        launcher: The launcher with the most followers among the steps of the run.
    """

    def __init__(self, run: Path, launcher: Launcher) -> None:
        self._folder = RunPaths(run).nodes
        self._others = range(1, launcher.num_followers + 1)
        self._launcher = launcher
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {"beat": 0, "members": {}, "launch": None, "step": None, "code": None}
        self._has_ended = threading.Event()

    @contextmanager
    def owning(self) -> Iterator[None]:
        """Show the other nodes within the block that this one is alive."""
        if not self._others:
            yield
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)
        beating = threading.Thread(target=self._beat, daemon=True, name="first-node")
        beating.start()
        try:
            yield
        finally:
            self._has_ended.set()
            beating.join()
            if self._state["code"] is None:
                self.end(ExitCode.FAILED)

    def end(self, code: int) -> None:
        """Tell the other nodes with which exit code the run has ended; waits a moment for those that are not there yet."""
        if not self._others:
            return
        end = time.monotonic() + _LATE
        while self._missing() and time.monotonic() < end:
            time.sleep(_POLL)
        with suppress(OSError):  # a full disk
            self._write(members=self._tokens(), code=int(code))

    def gather(self, launcher: Launcher, check: Callable[[], None]) -> None:
        """Wait until every node is there that a step needs.

        Args:
            launcher: Of the step.
            check: Called several times a second; its exception ends the wait.

        Raises:
            StepFailed: a node does not come.
        """
        if launcher.num_followers == 0:
            return
        end, is_said = time.monotonic() + self._launcher.patience, False
        while missing := self._missing():
            names = ", ".join(map(str, missing))
            if not is_said:
                is_said = True
                say(f"waiting for node {names}, on which the same command is to be typed")
            if time.monotonic() > end:
                raise StepFailed(
                    f"node {names} did not come within launcher.patience={self._launcher.patience:g} s; type the same command "
                    f"on every node, with a run directory that they share: {self._folder.parent}"
                )
            check()
            time.sleep(_POLL)

    def start(self, step: Path, launcher: Launcher) -> None:
        """Let the other nodes start their ranks of a step.

        Args:
            step: Its folder, with everything that the ranks read.
            launcher: Of the step; one on this machine alone needs no other node.
        """
        if launcher.num_followers:
            self._write(members=self._tokens(), launch=uuid.uuid4().hex, step=step.name)

    def check(self, folder: Path, step: PlanStep) -> None:
        """Raise the error that ends the run if another node is to end, in a step that has no checkpoint to save first."""
        if step.config.launcher.num_followers and step.batch is None:
            request = requested_stop(folder)
            if request is not None:
                raise request.error()

    def _missing(self) -> list[int]:
        return [index for index, token in self._tokens().items() if token is None]

    def _beat(self) -> None:
        while not self._has_ended.wait(_BEAT):
            with suppress(OSError):  # a full disk, which the step reports
                self._write()

    def _write(self, **changes: Any) -> None:
        with self._lock:
            self._state |= {**changes, "beat": self._state["beat"] + 1}
            write_json(_first_file(self._folder), self._state)

    def _tokens(self) -> dict[int, str | None]:
        return {index: read_json_object(_file_of(self._folder, index)).get("token") for index in self._others}


class OtherNode:
    """The side of a node that follows the first one.

    Args:
        run: The run directory.
        launcher: Of the command that was typed here.
        steps: The planned steps of that command.
    """

    def __init__(self, run: Path, launcher: Launcher, steps: tuple[PlanStep, ...]) -> None:
        self._run = run
        self._launcher = launcher
        self._steps = steps
        self._index = launcher.index_of_this_node
        self._folder = RunPaths(run).nodes
        self._token = uuid.uuid4().hex
        self._step: Path | None = None  # whose ranks run here
        self._shown = time.monotonic()  # when this node has last shown that it is there
        self._changed = time.monotonic()  # when the first node has last shown that it is alive
        self._beats: list[int] = []  # the first sign of life that was seen, and the newest
        self._must_end = False

    def follow(self) -> ExitCode:
        """Start the ranks of this node for each step, until the run ends; return its exit code.

        Raises:
            Refused: the first node runs another command.
            StepFailed: the first node does not come, or has ended without a word.
        """
        before = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGUSR1)}
        try:
            return self._followed()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            _file_of(self._folder, self._index).unlink(missing_ok=True)

    def _followed(self) -> ExitCode:
        say(f"node {self._index} of {self._launcher.num_nodes}: follows the first node in {self._run}")
        self._show(at_once=True)
        launched: str | None = None
        tree: ProcessTree | None = None
        try:
            while True:
                order = self._order()
                if order is not None and order["code"] is not None:
                    return ExitCode(order["code"])
                if order is not None and order["launch"] not in (None, launched):
                    self._finish(tree)
                    launched = order["launch"]
                    tree = self._start(RunPaths(self._run).steps / order["step"])
                if tree is not None and tree.poll() is not None:
                    say(f"node {self._index}: its ranks ended with exit status {tree.returncode}")
                    tree = self._step = None
                time.sleep(_POLL)
        finally:
            self._finish(tree)

    @staticmethod
    def _finish(tree: ProcessTree | None) -> None:
        """Wait a moment for ranks whose step the first node knows to have ended, and end what is left of them."""
        if tree is not None and tree.wait(_LEAVE) is None:
            tree.end()

    def _order(self) -> dict[str, Any] | None:
        """Return what the first node says to this one; None where it does not know this one yet."""
        self._show()
        found = read_json_object(_first_file(self._folder))
        now = time.monotonic()
        if found and found["beat"] not in self._beats[1:]:
            self._beats, self._changed = [*self._beats[:1], found["beat"]], now
        elif now - self._changed > self._launcher.patience:
            raise StepFailed(
                f"node {self._index} has had no sign of the first node for launcher.patience={self._launcher.patience:g} s; "
                f"type the same command on every node, with a run directory that they share: {self._run}"
            )
        is_known = bool(found) and found["members"].get(str(self._index)) == self._token
        if is_known:
            return found
        # The end of a run that needed no other node; a file from before this node was started does not change.
        is_alive = len(self._beats) > 1 and self._beats[0] != self._beats[1]
        if is_alive and found and found["code"] is not None:
            return {"code": found["code"]}
        return {"code": int(ExitCode.PREEMPTED)} if self._must_end else None

    def _show(self, *, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._shown > _BEAT:
            self._shown = time.monotonic()
            self._folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # the first node removes what it finds
                write_json(_file_of(self._folder, self._index), {"token": self._token})

    def _start(self, folder: Path) -> ProcessTree:
        """Start the ranks of this node for a step."""
        launcher = self._launcher_of(folder)
        self._step = folder
        say(f"node {self._index}: joins {folder.name}")
        launch = launcher.launch(folder)
        served = read_step(folder).served()
        if served is not None:
            launch = served.beside(launch)
        environment = {**inherited_environment(), **launch.environment, PARENT_VARIABLE: parent_mark()}
        with StepPaths(folder).log_of_node(self._index).open("ab") as log:
            return ProcessTree(launch.arguments, environment, log)

    def _launcher_of(self, folder: Path) -> Launcher:
        """Return the launcher of a step as it was typed here, with the index of this node.

        Raises:
            Refused: the step of the first node's plan is none of the command typed here.
        """
        plan: RunPlan = read_plan(self._run)
        step = next(step for step in plan.steps if step.paths(self._run).folder.name == folder.name)
        own = next((own for own in self._steps if own.key == step.key), None)
        if own is None:
            raise Refused(
                f"the first node runs {step.name} with other settings than those typed here; type the same command on every "
                f"node: {' '.join(plan.overrides)}"
            )
        return own.config.launcher

    def _receive(self, number: int, frame: FrameType | None) -> None:
        """Let the ranks save a checkpoint and end, because the scheduler ends this node."""
        name = signal.Signals(number).name
        self._must_end = True
        if self._step is not None:
            reason = f"the scheduler needs node {self._index} ({name})"
            request_stop(self._step, StopRequest(state="preempted", reason=reason))


def first_node_of(plan: RunPlan, run: Path) -> FirstNode:
    """Return the side of this node, which owns the run."""
    launchers = [plan.config.launcher, *(step.config.launcher for step in plan.steps)]
    return FirstNode(run, max(launchers, key=lambda launcher: launcher.num_followers))


def _first_file(folder: Path) -> Path:
    return folder / "first.json"


def _file_of(folder: Path, index: int) -> Path:
    return folder / f"node-{index}.json"
