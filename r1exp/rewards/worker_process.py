"""The inside of a worker: wait for a job, score it, answer; until the pipe or the parent is gone.

Started as `python -m r1exp.rewards.worker_process FILE_DESCRIPTOR PARENT`. Foreign code runs here
(math-verify, anyone's reward function), so this is one of the two borders where every exception is
caught: it becomes an abstention with the exception's name as the reason.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context, GroupReward, Score, SlowGroupReward, SlowReward

STARTED = "started"  # sent when the job's own time begins
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Job:
    """Some completions of one problem, to be scored in one call."""

    reward: SlowReward | SlowGroupReward
    problem: Problem
    completions: tuple[Completion, ...]
    context: Context


def main() -> None:
    """Serve jobs until the parent hangs up."""
    _die_with(int(sys.argv[2]))
    connection: Connection[list[Score] | str, Job] = Connection(int(sys.argv[1]))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a reward prints is no answer
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(_answer(job, connection))


def _answer(job: Job, connection: "Connection[list[Score] | str, Job]") -> list[Score]:
    try:
        job.reward.prepare()
        connection.send(STARTED)
        if isinstance(job.reward, SlowReward):
            _limit_memory(job.reward.memory_limit)
        return _score(job)
    except MemoryError:
        return [Abstain("out of memory")] * len(job.completions)
    except Exception as error:  # noqa: BLE001 - foreign code; the reason is counted and shown
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


def _die_with(parent: int) -> None:
    """Make sure this process ends when `parent` does, even by kill -9 and even in an endless loop."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    main()
