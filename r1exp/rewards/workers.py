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
_PATIENCE = 20.0  # seconds to try again to start a worker where the limit of processes is reached
_FIRST_PAUSE = 0.1  # seconds before the second attempt; doubled for each further one
_REAP_SECONDS = 10.0  # seconds for the forkserver to wait for a worker that was killed
_NO_PROCESS = (
    f"no worker process for rewards could be started within {_PATIENCE:g} s: the limit of processes is reached (`ulimit -u`, "
    "or pids.max of the container); raise it, or lower launcher.num_processes or launcher.threads_per_process"
)


class _NoProcessError(Exception):
    """The limit of processes is reached."""


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
        self._forkserver = _Forkserver(preload, output, ready_seconds)
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
        self._start_workers(min(self._num_workers, len(jobs)))
        waiting = _contiguous_shares(len(jobs), len(self._workers))
        while any(waiting) or any(worker.busy for worker in self._workers):
            for own, worker in zip(waiting, self._workers, strict=True):
                if any(waiting) and not worker.busy and not worker.is_lost:
                    position = own.popleft() if own else max(waiting, key=len).pop()
                    if not worker.start(position, jobs[position], self._ready_seconds):
                        own.appendleft(position)
            if all(worker.is_lost for worker in self._workers):
                raise StepFailed(_NO_PROCESS)
            for position, scores in self._finished():
                results[position] = scores
        self._workers[:] = [worker for worker in self._workers if not worker.is_lost]
        return results

    def _start_workers(self, number: int) -> None:
        """Start workers up to `number`; where the machine allows no further process, only as many as it allows.

        Raises:
            StepFailed: not even one can be started.
        """
        while len(self._workers) < number:
            try:
                self._workers.append(_Worker(self._forkserver, 0.0 if self._workers else _PATIENCE))
            except _NoProcessError as error:
                if self._workers:
                    return
                raise StepFailed(_NO_PROCESS) from error

    def close(self) -> None:
        """Kill the workers. A later `run` starts new ones."""
        _end(self._workers, self._forkserver)

    def _finished(self) -> list[tuple[int, list[Score]]]:
        """Wait for the next message or deadline and return the jobs that it ended."""
        busy = [worker for worker in self._workers if worker.busy]
        if not busy:
            return []
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

    def __init__(self, preload: Sequence[str], output: IO[bytes] | None, ready_seconds: float) -> None:
        self._preload = preload
        self._ready_seconds = ready_seconds
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Connection[Any, Any] | None = None

    def fork(self, patience: float) -> "tuple[Connection[Any, Any], int]":
        """Return the pipe and the process id of a new worker.

        Args:
            patience: Seconds to try again where the limit of processes is reached.

        Raises:
            StepFailed: the forkserver does not start, or does not get ready.
            _NoProcessError: the limit of processes is reached.
        """
        until, pause, num_exits = time.monotonic() + patience, _FIRST_PAUSE, 0
        while True:
            try:
                return self._fork()
            except _NoProcessError:
                if time.monotonic() > until:
                    raise
                time.sleep(pause)
                pause *= 2
            except (OSError, EOFError) as error:  # the forkserver has exited
                self.end()
                num_exits += 1
                if num_exits > 1:
                    raise StepFailed(
                        "the process that scores slow rewards does not start; its error output is above"
                    ) from error

    def reap(self, worker: int) -> int | None:
        """Let the forkserver wait for a worker that was killed, which frees its process id; return its exit status."""
        if self._control is not None:
            with suppress(OSError, EOFError):
                self._control.send(worker)
                if self._control.poll(_REAP_SECONDS):
                    return self._control.recv()
                self.end()  # a later answer must not be read as that to the next request
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
        if not self._control.poll(self._ready_seconds):
            self.end()
            ours.close()
            raise StepFailed(
                f"the process that scores slow rewards did not get ready within {self._ready_seconds:g} s; it imports "
                f"{', '.join(self._preload) or 'r1exp'}: see whether `python -c 'import {(*self._preload, 'r1exp')[0]}'` ends"
            )
        answer = self._control.recv()
        if isinstance(answer, str):
            ours.close()
            raise _NoProcessError(answer)
        return ours, answer

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
        try:
            self._process = subprocess.Popen(
                [*command, *self._preload],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                env=environment,
                start_new_session=True,  # so that Ctrl-C interrupts only the parent
            )
        except BlockingIOError as error:  # EAGAIN
            self._control.close()
            raise _NoProcessError(str(error)) from error
        finally:
            theirs.close()


class _Worker:
    """One worker process and its current job."""

    def __init__(self, forkserver: _Forkserver, patience: float) -> None:
        self.busy = False
        self.is_lost = False  # its process was killed, and no other can be started
        self.position = -1  # of the job among the jobs of the batch
        self.until = 0.0  # time.monotonic() by which the next message must arrive
        self._job: Job | None = None
        self._started = False
        self._repeated = False  # the job was sent a second time
        self._ready_seconds = 0.0
        self._forkserver = forkserver
        self.connection, self.pid = forkserver.fork(patience)

    def start(self, position: int, job: Job, ready_seconds: float) -> bool:
        """Send a job to this idle worker, whose process is replaced first if it has exited; return whether it was sent."""
        self.position, self._job = position, job
        self._ready_seconds = ready_seconds
        self._repeated = False
        return self._send()

    def _send(self) -> bool:
        self.busy, self._started = True, False
        self.until = time.monotonic() + self._ready_seconds
        try:
            self.connection.send(self._job)
        except (BrokenPipeError, ConnectionResetError):
            self.replace()
            if self.is_lost:
                self.busy = False
                return False
            self.connection.send(self._job)
        return True

    def receive(self) -> list[Score] | None:
        """Read a message; return the scores if it contains them.

        A job whose process was killed from outside is sent once more: nothing tells yet that the completion is at fault.
        """
        assert self._job is not None
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            status = self.replace()
            if self._repeated or self.is_lost or not _was_killed(status):
                return self._abstentions(DIED, status)
            self._repeated = True
            return None if self._send() else self._abstentions(DIED, status)
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
        try:
            self.connection, self.pid = self._forkserver.fork(_PATIENCE)
        except _NoProcessError:
            self.is_lost = True
        return status

    def kill(self) -> int | None:
        """Kill the process with all processes that it started; return its exit status."""
        if self.is_lost:
            return None
        # Until the forkserver has waited for it, no other process can have its id.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.connection.close()
        return self._forkserver.reap(self.pid)

    def _replace_and_abstain(self, reason: Abstain) -> list[Score]:
        return self._abstentions(reason, self.replace())

    def _abstentions(self, reason: Abstain, status: int | None) -> list[Score]:
        assert self._job is not None
        details = {
            DIED: _ended_with(status),
            TIMEOUT: f"did not return within its deadline, {self._job.deadline:g} s for {len(self._job.completions)} "
            "completions",
            NOT_READY: f"its module was not imported within {self._ready_seconds:g} s",
        }
        return [Abstain(reason.reason, details[reason])] * len(self._job.completions)


def _was_killed(status: int | None) -> bool:
    """Return whether an exit status is that of a kill; None, where the forkserver was killed, counts too."""
    return status is None or -status in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


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
