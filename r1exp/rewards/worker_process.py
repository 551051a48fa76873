"""Runs in the forkserver and in its workers: receives jobs through a pipe, scores them, and sends the scores.

    python -m r1exp.rewards.worker_process CONTROL PARENT MODULE...

starts the forkserver. It imports the modules once, calls their `warm_up`, and forks a worker at every
request. A new worker therefore has the modules already, and a worker that was killed is replaced in
milliseconds. The forkserver stays single-threaded and runs no foreign code. The parent starts the
forkserver, which starts the workers; if one of these processes exits, all processes started by it are
terminated.

Foreign code runs in the workers (math-verify, users' reward functions). This is one of the two places
where every exception is caught: it becomes an abstention with the name of the exception as its reason,
and its message, file and line as the detail.
"""

import ctypes
import importlib
import os
import resource
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import NoReturn

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context, GroupReward, Reward, Score, SlowGroupReward, SlowReward
from r1exp.rewards.faults import fault_of, scores_from

STARTED = "started"  # from a worker: the time of the job begins now
FORK = "fork"  # to the forkserver: a pipe follows; it answers with the process id of the new worker
DEADLINE = (
    5.0  # seconds for one completion of a reward without a deadline of its own, which `r1exp check` isolates
)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Job:
    """Completions of one problem that are scored in one call."""

    reward: Reward
    problem: Problem
    completions: tuple[Completion, ...]
    context: Context

    @property
    def deadline(self) -> float:
        """Seconds that it may take."""
        of_one = self.reward.deadline if isinstance(self.reward, SlowReward | SlowGroupReward) else DEADLINE
        return of_one * len(self.completions)


def main() -> None:
    """Run the forkserver until the parent closes the pipe."""
    control: Connection[int | str | None, str | int] = Connection(int(sys.argv[1]))
    _exit_with_parent(int(sys.argv[2]))
    for module in sys.argv[3:]:
        importlib.import_module(module).warm_up()
    forkserver = os.getpid()
    while True:
        try:
            request = control.recv()
        except EOFError:
            return
        if isinstance(request, int):  # the id of a worker that was killed and must be waited for
            control.send(_exit_status(request))
            continue
        pipe = recv_handle(control)
        try:
            worker = os.fork()
        except OSError as error:  # the limit of processes, or memory; the workers that exist go on
            os.close(pipe)
            control.send(str(error))
            continue
        if worker == 0:
            control.close()
            _serve_jobs(Connection(pipe), forkserver)
        os.close(pipe)
        control.send(worker)


def _serve_jobs(connection: "Connection[list[Score] | str, Job]", forkserver: int) -> NoReturn:
    """Score jobs until the parent closes the pipe."""
    os.setsid()  # a process group of its own, so that its children can be killed with it
    with suppress(OSError):  # where memory runs out, the kernel ends this process and not the training
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    worker = os.getpid()
    _exit_with_parent(forkserver)
    if sys.platform != "linux":  # elsewhere the kernel does not do it
        threading.Thread(target=_poll_parent, args=(forkserver,), daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            job = connection.recv()
            scores = scores_of(job, connection)
            if os.getpid() != worker:  # a copy of this process, which foreign code made and did not end
                os._exit(0)
            connection.send(scores)
    os._exit(0)


def _exit_status(worker: int) -> int | None:
    """Wait for a worker to end; return its exit code, or the negative number of the signal that ended it."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    except ChildProcessError:
        return None


def scores_of(job: Job, connection: "Connection[list[Score] | str, Job]") -> list[Score]:
    """Return the scores of a job; abstain if foreign code raises an exception or runs out of memory."""
    try:
        if isinstance(job.reward, SlowGroupReward):
            job.reward.prepare()
        connection.send(STARTED)
        if isinstance(job.reward, SlowReward):
            _limit_memory(job.reward.memory_limit)
        return _score(job)
    except BaseException as error:  # noqa: BLE001 - foreign code, `sys.exit` included; counted and printed
        is_memory = isinstance(error, MemoryError)
        if not is_memory:
            _print_once(error)
        reason = "out of memory" if is_memory else f"error: {type(error).__name__}"
        return [Abstain(reason, fault_of(error))] * len(job.completions)
    finally:
        _limit_memory(None)


def _score(job: Job) -> list[Score]:
    if isinstance(job.reward, GroupReward):
        return scores_from(
            job.reward.score_group(job.problem, job.completions, job.context), len(job.completions)
        )
    scores = [job.reward.score(job.problem, completion, job.context) for completion in job.completions]
    return scores_from(scores, len(scores))


def _limit_memory(num_bytes: int | None) -> None:
    """Limit the address space of this process; None removes the limit."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = (
        hard if num_bytes is None else num_bytes if hard == resource.RLIM_INFINITY else min(num_bytes, hard)
    )
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


_PRINTED: set[str] = set()


def _print_once(error: BaseException) -> None:
    """Print the first traceback of each type of exception, for the log."""
    if type(error).__name__ not in _PRINTED:
        _PRINTED.add(type(error).__name__)
        traceback.print_exception(error)


def _exit_with_parent(parent: int) -> None:
    """Let the kernel kill this process when `parent` exits: also by kill -9, also in an endless loop."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _poll_parent(parent: int) -> None:
    """Exit when `parent` does, on systems without that call, as long as the job lets other threads run."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    main()
