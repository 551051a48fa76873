"""How can a scorer that hangs cost no more than its deadline? It runs in a process that can be killed.

A pool keeps its workers alive between batches, because what they import takes seconds. A job's
time starts when its worker says so. A worker that overstays is killed with all it started and
replaced, and the job's completions abstain with reason `timeout`; one that dies is replaced as
well. Threads and signals give no such bound: math-verify's own timeout is a signal, which needs the
main thread and cannot interrupt C code.
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
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from r1exp.rewards.base import TIMEOUT, Abstain, Score
from r1exp.rewards.worker_process import STARTED, Job

DIED = Abstain("worker died")
NOT_READY = Abstain("worker did not get ready")
MAX_WORKERS = 16  # by default; more is a matter of asking


def default_num_workers() -> int:
    """Return the cores this process may use, shared with the other ranks of this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(cores // ranks, MAX_WORKERS))


class WorkerPool:
    """A fixed number of worker processes, started when first needed.

    Args:
        num_workers: Processes; None takes the cores there are.
        ready_seconds: How long a worker may take to start and import before its job abstains.
    """

    def __init__(self, num_workers: int | None = None, ready_seconds: float = 120.0) -> None:
        self._num_workers = default_num_workers() if num_workers is None else num_workers
        self._ready_seconds = ready_seconds
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _kill_all, self._workers)

    def run(self, jobs: Sequence[Job]) -> list[list[Score]]:
        """Return the scores of every job, in order; every job is done within its deadline."""
        try:
            return self._run(jobs)
        except BaseException:
            self.close()  # answers to this batch must not be taken for the next one's
            raise

    def _run(self, jobs: Sequence[Job]) -> list[list[Score]]:
        results: list[list[Score]] = [[] for _ in jobs]
        waiting = deque(range(len(jobs)))
        while len(self._workers) < min(self._num_workers, len(jobs)):
            self._workers.append(_Worker())
        while waiting or any(worker.busy for worker in self._workers):
            for worker in self._workers:
                if waiting and not worker.busy:
                    position = waiting.popleft()
                    worker.take(position, jobs[position], self._ready_seconds)
            for position, scores in self._finished():
                results[position] = scores
        return results

    def close(self) -> None:
        """Kill the workers; a later `run` starts new ones."""
        _kill_all(self._workers)
        self._workers.clear()

    def _finished(self) -> list[tuple[int, list[Score]]]:
        """Wait for the next event and return the jobs it ended."""
        busy = [worker for worker in self._workers if worker.busy]
        patience = max(0.0, min(worker.until for worker in busy) - time.monotonic())
        answered = wait([worker.connection for worker in busy], timeout=patience)
        ended = []
        for worker in busy:
            scores = worker.hear() if worker.connection in answered else worker.overdue()
            if scores is not None:
                ended.append((worker.position, scores))
                worker.busy = False
        return ended


class _Worker:
    """One process and the job it has in hand."""

    def __init__(self) -> None:
        self.busy = False
        self.position = -1  # of the job in the batch
        self.until = 0.0  # time.monotonic() by which to be heard
        self._job: Job | None = None
        self._started = False
        self.connection, self._process = _start()

    def take(self, position: int, job: Job, ready_seconds: float) -> None:
        """Send a job; the worker was idle. One that died idle is replaced first."""
        self.busy, self._started = True, False
        self.position, self._job = position, job
        self.until = time.monotonic() + ready_seconds
        try:
            self.connection.send(job)
        except (BrokenPipeError, ConnectionResetError):
            self.replace()
            self.connection.send(job)

    def hear(self) -> list[Score] | None:
        """Read a message; return the scores if it brought them."""
        assert self._job is not None
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._give_up(DIED)
        if message == STARTED:
            self._started = True
            self.until = time.monotonic() + self._job.reward.deadline * len(self._job.completions)
            return None
        return list(message)

    def overdue(self) -> list[Score] | None:
        """Return abstentions if the job is past its time; the worker is then a new one."""
        if time.monotonic() < self.until:
            return None
        return self._give_up(TIMEOUT if self._started else NOT_READY)

    def replace(self) -> None:
        """Kill the process with all that it started, and start another."""
        self.kill()
        self.connection, self._process = _start()

    def kill(self) -> None:
        """Kill the process with all that it started."""
        if self._process.returncode is None:  # not reaped, so the number is still this process's
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # a session of its own: see `_start`
        self._process.wait()
        self.connection.close()

    def _give_up(self, reason: Abstain) -> list[Score]:
        assert self._job is not None
        self.replace()
        return [reason] * len(self._job.completions)


def _start() -> "tuple[Connection[Any, Any], subprocess.Popen[bytes]]":
    ours, theirs = Pipe()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "r1exp.rewards.worker_process", str(theirs.fileno()), str(os.getpid())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C is for the parent, and the group can be killed whole
    )
    theirs.close()
    return ours, process


def _kill_all(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.kill()
