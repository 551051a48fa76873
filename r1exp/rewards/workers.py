"""Runs slow scorers in worker processes that are killed at a deadline.

A pool keeps its workers alive between batches, because their imports take seconds, and forks new ones
from a process that has the imports already. The time of a job starts when its worker reports that it is
ready. A worker that exceeds the deadline is killed with all processes that it started, and replaced; the
job's completions abstain with reason `timeout`. A worker that exits is replaced too. Threads and signals
give no such bound: math-verify's own timeout is a signal, which needs the main thread and cannot
interrupt C code.
"""

import os
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import send_handle
from typing import IO, Any

from r1exp.distributed import local_world_size
from r1exp.errors import StepFailed
from r1exp.rewards.base import TIMEOUT, Abstain, Score
from r1exp.rewards.worker_process import FORK, STARTED, Job

DIED = Abstain("worker died")
NOT_READY = Abstain("worker did not get ready")
MAX_WORKERS = 16  # of the default; `num_workers` may be larger


def default_num_workers() -> int:
    """Return the cores that this process may use, divided by the ranks on this machine, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // local_world_size(), MAX_WORKERS))


class WorkerPool:
    """A fixed number of worker processes, started when first needed.

    Args:
        num_workers: Processes; None: `default_num_workers()`.
        preload: Modules that are imported in every worker before its first job.
        ready_seconds: Seconds that a worker may take to get ready before its job abstains.
        output: File that the output of the workers is written to; None: that of this process.
    """

    def __init__(
        self,
        num_workers: int | None = None,
        preload: Sequence[str] = (),
        ready_seconds: float = 120.0,
        output: IO[bytes] | None = None,
    ) -> None:
        self._num_workers = default_num_workers() if num_workers is None else num_workers
        self._ready_seconds = ready_seconds
        self._forkserver = _Forkserver(preload, output)
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _end, self._workers, self._forkserver)

    def run(self, jobs: Sequence[Job]) -> list[list[Score]]:
        """Return the scores of every job, in order. No job takes longer than its deadline."""
        try:
            return self._run(jobs)
        except BaseException:
            self.close()  # answers that are still to come must not be read as those of the next batch
            raise

    def _run(self, jobs: Sequence[Job]) -> list[list[Score]]:
        results: list[list[Score]] = [[] for _ in jobs]
        while len(self._workers) < min(self._num_workers, len(jobs)):
            self._workers.append(_Worker(self._forkserver))
        waiting = _contiguous_shares(len(jobs), len(self._workers))
        while any(waiting) or any(worker.busy for worker in self._workers):
            for own, worker in zip(waiting, self._workers, strict=True):
                if any(waiting) and not worker.busy:
                    position = own.popleft() if own else max(waiting, key=len).pop()
                    worker.start(position, jobs[position], self._ready_seconds)
            for position, scores in self._finished():
                results[position] = scores
        return results

    def close(self) -> None:
        """Kill the workers. A later `run` starts new ones."""
        _end(self._workers, self._forkserver)

    def _finished(self) -> list[tuple[int, list[Score]]]:
        """Wait for the next message or deadline and return the jobs that it ended."""
        busy = [worker for worker in self._workers if worker.busy]
        seconds_left = max(0.0, min(worker.until for worker in busy) - time.monotonic())
        readable = wait([worker.connection for worker in busy], timeout=seconds_left)
        ended = []
        for worker in busy:
            scores = worker.receive() if worker.connection in readable else worker.check_deadline()
            if scores is not None:
                ended.append((worker.position, scores))
                worker.busy = False
        return ended


class _Forkserver:
    """The process that workers are forked from, started when the first one is needed."""

    def __init__(self, preload: Sequence[str], output: IO[bytes] | None) -> None:
        self._preload = preload
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Connection[Any, Any] | None = None

    def fork(self) -> "tuple[Connection[Any, Any], int]":
        """Return the pipe and the process id of a new worker.

        Raises:
            StepFailed: the forkserver does not start.
        """
        for is_last in (False, True):
            try:
                return self._fork()
            except (OSError, EOFError) as error:  # the forkserver has exited
                self.end()
                if is_last:
                    raise StepFailed(
                        "the process that scores slow rewards does not start; its error output is above"
                    ) from error
        raise AssertionError("unreachable")

    def reap(self, worker: int) -> int | None:
        """Let the forkserver wait for a worker that was killed, which frees its process id; return its exit status."""
        if self._control is not None:
            with suppress(OSError, EOFError):
                self._control.send(worker)
                return self._control.recv()
        return None

    def end(self) -> None:
        """Kill the forkserver, and with it every worker."""
        if self._process is not None and self._control is not None:
            self._process.kill()
            self._process.wait()
            self._control.close()
        self._process = self._control = None

    def _fork(self) -> "tuple[Connection[Any, Any], int]":
        if self._process is None:
            self._start()
        assert self._control is not None
        assert self._process is not None
        ours, theirs = Pipe()
        with theirs:
            self._control.send(FORK)
            send_handle(self._control, theirs.fileno(), self._process.pid)
        return ours, self._control.recv()

    def _start(self) -> None:
        self._control, theirs = Pipe()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONHASHSEED": "0",  # the same formula is simplified the same way in every worker
            "OMP_NUM_THREADS": "1",
        }
        command = [
            sys.executable,
            "-m",
            "r1exp.rewards.worker_process",
            str(theirs.fileno()),
            str(os.getpid()),
        ]
        self._process = subprocess.Popen(
            [*command, *self._preload],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env=environment,
            start_new_session=True,  # so that Ctrl-C interrupts only the parent
        )
        theirs.close()


class _Worker:
    """One worker process and its current job."""

    def __init__(self, forkserver: _Forkserver) -> None:
        self.busy = False
        self.position = -1  # of the job among the jobs of the batch
        self.until = 0.0  # time.monotonic() by which the next message must arrive
        self._job: Job | None = None
        self._started = False
        self._ready_seconds = 0.0
        self._forkserver = forkserver
        self.connection, self.pid = forkserver.fork()

    def start(self, position: int, job: Job, ready_seconds: float) -> None:
        """Send a job to this idle worker; if its process has exited, replace it first."""
        self.busy, self._started = True, False
        self.position, self._job = position, job
        self._ready_seconds = ready_seconds
        self.until = time.monotonic() + ready_seconds
        try:
            self.connection.send(job)
        except (BrokenPipeError, ConnectionResetError):
            self.replace()
            self.connection.send(job)

    def receive(self) -> list[Score] | None:
        """Read a message; return the scores if it contains them."""
        assert self._job is not None
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._replace_and_abstain(DIED)
        if message == STARTED:
            self._started = True
            self.until = time.monotonic() + self._job.deadline
            return None
        return list(message)

    def check_deadline(self) -> list[Score] | None:
        """Replace the process and return abstentions if the deadline of the job has passed."""
        if time.monotonic() < self.until:
            return None
        return self._replace_and_abstain(TIMEOUT if self._started else NOT_READY)

    def replace(self) -> int | None:
        """Kill the process with all processes that it started, and fork another; return its exit status."""
        status = self.kill()
        self.connection, self.pid = self._forkserver.fork()
        return status

    def kill(self) -> int | None:
        """Kill the process with all processes that it started; return its exit status."""
        # Until the forkserver has waited for it, no other process can have its id.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.connection.close()
        return self._forkserver.reap(self.pid)

    def _replace_and_abstain(self, reason: Abstain) -> list[Score]:
        assert self._job is not None
        status = self.replace()
        details = {
            DIED: _ended_with(status),
            TIMEOUT: f"did not return within its deadline, {self._job.deadline:g} s for {len(self._job.completions)} "
            "completions",
            NOT_READY: f"its module was not imported within {self._ready_seconds:g} s",
        }
        return [Abstain(reason.reason, details[reason])] * len(self._job.completions)


def _ended_with(status: int | None) -> str:
    """Return what ended a worker, from its exit status."""
    if status is None or status >= 0:
        return (
            f"ended its process with exit status {'unknown' if status is None else status}, as os._exit does"
        )
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    cause = ": the machine had no memory left, or the process was killed" if name == "SIGKILL" else ""
    return f"ended its process with {name}{cause}"


def _contiguous_shares(num_jobs: int, num_workers: int) -> list[deque[int]]:
    """Return the positions of neighboring jobs for each worker.

    Neighbors are often of one group and share its gold answer, which a worker then parses once. A worker
    without jobs takes one from the end of the longest share.
    """
    bounds = [num_jobs * worker // max(num_workers, 1) for worker in range(num_workers + 1)]
    return [deque(range(start, stop)) for start, stop in pairwise(bounds)]


def _end(workers: list[_Worker], forkserver: _Forkserver) -> None:
    for worker in workers:
        worker.kill()
    workers.clear()
    forkserver.end()
