"""Passes rows, completions and alerts to every chosen tracker, so that none of them can end or slow down a run.

Each tracker works in a thread of its own. A tracker that raises an exception (no network, a full disk, a rejected key)
is shown as a warning and left out from then on; metrics.jsonl has every row in any case.
"""

import os
import queue
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from r1exp.errors import ExitCode, R1ExpError
from r1exp.terminal import say
from r1exp.tracking.base import Level, Row, TrackedRun, Tracker

FINISH_TIMEOUT = 60.0  # seconds that a step waits at its end for all trackers together
_MAX_WAITING = 10_000  # calls that a tracker may be behind
_SECRET_NAME = re.compile(r"key|token|secret|password", re.IGNORECASE)
_SHORTEST_SECRET = 8  # characters; a shorter value of a variable is no secret
_Call = Callable[[Tracker], None]


class Trackers:
    """The trackers of one step or run. Used on rank 0 only; the other ranks have none.

    As a context it finishes the trackers: with the exit code of the error with which the block ends, if any.

    Args:
        settings: Name -> settings of the trackers.
        run: What is tracked.
        tracked_until: Optimizer steps whose rows the trackers have from before an interruption: rows up to there are
            not written again.
    """

    def __init__(
        self, settings: Mapping[str, Tracker], run: TrackedRun | None, tracked_until: int = -1
    ) -> None:
        self._until = tracked_until
        self._senders = [_Sender(name, each, run) for name, each in settings.items()] if run else []
        self.identity = run.identity if run is not None and self._senders else None
        self._is_finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = error.exit_code if isinstance(error, R1ExpError) else ExitCode.FAILED
        self.finish(ExitCode.DONE if error is None else failed)

    def log(self, row: Row, step: int) -> None:
        """Write the numbers of a row; None stands for one that is not finite."""
        numbers = {
            key: value
            for key, value in row.items()
            if key != "step" and (value is None or isinstance(value, int | float))
        }
        if step > self._until:
            self._each(lambda tracker: tracker.log(numbers, step))

    def log_completions(self, rows: Sequence[Row], step: int) -> None:
        """Write a sample of completions."""
        if step > self._until and rows:
            named = [{key: value for key, value in row.items() if key != "step"} for row in rows]
            self._each(lambda tracker: tracker.log_completions(named, step))

    def alert(self, title: str, text: str, level: Level, step: int) -> None:
        """Write that a health rule is broken."""
        if step > self._until:
            self._each(lambda tracker: tracker.alert(title, text, level, step))

    def summarize(self, values: Row) -> None:
        """Write the results."""
        self._each(lambda tracker: tracker.summarize(values))

    def finish(self, code: ExitCode) -> None:
        """Finish all trackers, and wait `FINISH_TIMEOUT` at most. Later calls do nothing."""
        if self._is_finished:
            return
        self._is_finished = True
        self._each(lambda tracker: tracker.finish(code))
        for sender in self._senders:
            sender.close()
        end = threading.Event()
        waiting = threading.Thread(target=self._join, args=(end,), daemon=True)
        waiting.start()
        if not end.wait(FINISH_TIMEOUT):
            late = ", ".join(sender.tracker_name for sender in self._senders if sender.is_alive())
            say(
                f"tracking: {late} is not done after {FINISH_TIMEOUT:.0f} s and is left behind; metrics.jsonl has every row"
            )

    def _join(self, end: threading.Event) -> None:
        for sender in self._senders:
            sender.join()
        end.set()

    def _each(self, call: _Call) -> None:
        for sender in self._senders:
            sender.send(call)


class _Sender(threading.Thread):
    """Starts one tracker and makes its calls, in order, in a thread of its own."""

    def __init__(self, name: str, settings: Tracker, run: TrackedRun) -> None:
        super().__init__(name=f"tracking-{name}", daemon=True)
        self.tracker_name = name
        self._tracker = settings.model_copy(deep=True)
        self._run_info = run
        self._calls: queue.Queue[_Call | None] = queue.Queue()
        self._has_failed = False
        self.start()

    def send(self, call: _Call) -> None:
        """Make a call when the ones before are done; calls to a tracker that has failed are dropped."""
        if self._has_failed:
            return
        if self._calls.qsize() >= _MAX_WAITING:
            self._fail(f"it is {_MAX_WAITING} rows behind")
            return
        self._calls.put(call)

    def close(self) -> None:
        """Let the thread end after the calls that were sent."""
        self._calls.put(None)

    def run(self) -> None:
        """Start the tracker and make the calls."""
        self._try(lambda tracker: tracker.start(self._run_info))
        while not self._has_failed:
            call = self._calls.get()
            if call is None:
                return
            self._try(call)

    def _try(self, call: _Call) -> None:
        try:
            call(self._tracker)
        except Exception as error:  # noqa: BLE001 # foreign code, which must not end the run
            lines = str(error).strip().splitlines()
            self._fail(lines[0] if lines else type(error).__name__)

    def _fail(self, reason: str) -> None:
        if not self._has_failed:
            say(
                f"tracking={self.tracker_name}: {without_secrets(reason)}; the run goes on without it, and metrics.jsonl has "
                "every row"
            )
        self._has_failed = True


def without_secrets(text: str) -> str:
    """Return a text without passwords in addresses and without the values of variables that are named like secrets."""
    text = re.sub(r"://[^/@\s]+@", "://***@", text)
    values = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text
