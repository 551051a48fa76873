"""The inside of a worker: wait for a job, score it, answer; until the pipe or the parent is gone.

Started as `python -m r1exp.rewards.worker_process CONTROL PARENT MODULE...`, this first becomes the
forkserver: it imports the modules once and warms them up, and at every request forks a worker that has them, so that a
worker that had to be killed is replaced in milliseconds. It stays single-threaded and runs no
foreign code. The chain is parent, forkserver, workers: whoever dies takes all after it along.

Foreign code runs in the workers (math-verify, anyone's reward function), so this is one of the two
borders where every exception is caught: it becomes an abstention with the exception's name as the
reason.
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
from typing import NoReturn

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context, GroupReward, Score, SlowGroupReward, SlowReward

STARTED = "started"  # a worker: the job's own time begins
FORK = "fork"  # to the forkserver: a pipe follows; it answers with the worker's process id
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Job:
    """Some completions of one problem, to be scored in one call."""

    reward: SlowReward | SlowGroupReward
    problem: Problem
    completions: tuple[Completion, ...]
    context: Context


def main() -> None:
    """Be the forkserver until the parent hangs up."""
    control: Connection[int, str | int] = Connection(int(sys.argv[1]))
    _die_with(int(sys.argv[2]))
    for module in sys.argv[3:]:
        importlib.import_module(module).warm_up()
    forkserver = os.getpid()
    while True:
        try:
            request = control.recv()
        except EOFError:
            return
        if isinstance(request, int):  # a worker that was killed: its number may be given away again
            with suppress(ChildProcessError):
                os.waitpid(request, 0)
            continue
        pipe = recv_handle(control)
        worker = os.fork()
        if worker == 0:
            control.close()
            _work(Connection(pipe), forkserver)
        os.close(pipe)
        control.send(worker)


def _work(connection: "Connection[list[Score] | str, Job]", forkserver: int) -> NoReturn:
    """Serve jobs until the parent hangs up."""
    os.setsid()  # a group of its own, to be killed whole
    _die_with(forkserver)
    threading.Thread(target=_watch, args=(forkserver,), daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            job = connection.recv()
            connection.send(_answer(job, connection))
    os._exit(0)


def _answer(job: Job, connection: "Connection[list[Score] | str, Job]") -> list[Score]:
    try:
        if isinstance(job.reward, SlowGroupReward):
            job.reward.prepare()
        connection.send(STARTED)
        if isinstance(job.reward, SlowReward):
            _limit_memory(job.reward.memory_limit)
        return _score(job)
    except MemoryError:
        return [Abstain("out of memory")] * len(job.completions)
    except Exception as error:  # noqa: BLE001 - foreign code; the reason is counted and shown
        _show_once(error)
        return [Abstain(f"error: {type(error).__name__}")] * len(job.completions)
    finally:
        _limit_memory(None)


def _score(job: Job) -> list[Score]:
    if isinstance(job.reward, GroupReward):
        return job.reward.score_group(job.problem, job.completions, job.context)
    return [job.reward.score(job.problem, completion, job.context) for completion in job.completions]


def _limit_memory(num_bytes: int | None) -> None:
    """Bound the address space; None lifts the bound."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = (
        hard if num_bytes is None else num_bytes if hard == resource.RLIM_INFINITY else min(num_bytes, hard)
    )
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


_SHOWN: set[str] = set()


def _show_once(error: Exception) -> None:
    """Write the first traceback of each kind to the log."""
    if type(error).__name__ not in _SHOWN:
        _SHOWN.add(type(error).__name__)
        traceback.print_exception(error)


def _die_with(parent: int) -> None:
    """Make sure this process ends when `parent` does, even by kill -9 and even in an endless loop."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _watch(parent: int) -> None:
    """The same for systems without that call, as long as the job lets other threads run."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    main()
