import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from r1exp.errors import StepFailed
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, TokenizedCompletion
from r1exp.rewards.faults import NO_VALUE
from r1exp.rewards.function import Function
from r1exp.rewards.worker_process import Job
from r1exp.rewards.workers import DIED, TIMEOUT, WorkerPool

Run = Callable[..., list]


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(num_workers=2)
    yield pool
    pool.close()


@pytest.fixture
def run(pool: WorkerPool, foreign: str) -> Run:
    """Scores each text as a separate job."""

    def run(*texts: str, function: str = "misbehaves", deadline: float = 0.5, **settings: Any) -> list:
        reward = Function(kind=f"{foreign}:{function}", deadline=deadline, **settings)
        problem = Problem("a", "a", "5")
        jobs = [
            Job(reward, problem, (TokenizedCompletion(text, 3, token_ids=(1, 2, 4)),), Context(step=30))
            for text in texts
        ]
        return [scores[0] for scores in pool.run(jobs)]

    return run


def test_a_job_that_hangs_ends_at_its_deadline_and_the_others_continue(run: Run) -> None:
    run("warm")
    begin = time.monotonic()
    assert run("hang", "fine", "hang", "fine", "fine") == [TIMEOUT, 5.0, TIMEOUT, 5.0, 5.0]
    assert time.monotonic() - begin < 10.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("die", DIED.reason, id="the process exits"),
        pytest.param("raise", "error: KeyError", id="an exception"),
        pytest.param("short", "error: ValueError", id="too few values"),
        pytest.param("none", NO_VALUE.reason, id="None"),
        pytest.param("nan", "not finite", id="NaN"),
    ],
)
def test_a_failure_in_foreign_code_abstains_with_its_reason(text: str, expected: str, run: Run) -> None:
    broken, fine = run(text, "fine")
    assert broken.reason == expected
    assert fine == 5.0


def test_the_deadline_of_a_group_is_that_of_all_its_completions(pool: WorkerPool, foreign: str) -> None:
    reward = Function(kind=f"{foreign}:misbehaves", deadline=0.5)
    job = Job(reward, Problem("a", "a", "5"), (Completion("slow", 1),) * 4, Context())  # 1.2 s of 2.0
    assert pool.run([job]) == [[5.0] * 4]


GREEDY = """
from typing import ClassVar
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, SlowReward
from r1exp.rewards.worker_process import Job, scores_of
class Greedy(SlowReward):
    kind: str = "greedy"
    memory_limit: ClassVar[int] = 4 * 2**30
    span: ClassVar[tuple] = (0.0, 1.0)
    def score(self, problem, completion, context):
        return float(len(bytearray(int(completion.text))))
class Silent:
    def send(self, message): pass
for num_bytes in (10, 8 * 2**30, 10):
    job = Job(Greedy(), Problem("a", "a"), (Completion(str(num_bytes), 1),), Context())
    (score,) = scores_of(job, Silent())
    print(getattr(score, "reason", score), getattr(score, "detail", ""))
"""


def test_a_job_that_needs_too_much_memory_abstains() -> None:
    run = subprocess.run([sys.executable, "-c", GREEDY], capture_output=True, text=True, check=True)
    first, second, third = run.stdout.splitlines()
    assert (first.strip(), third.strip()) == ("10.0", "10.0")
    assert second == "out of memory MemoryError (<string>, line 11)"


def test_workers_are_kept_between_batches(run: Run) -> None:
    assert set(run("pid", "pid", "pid")) >= set(run("pid"))


def test_the_kernel_ends_a_worker_first_where_memory_runs_out(run: Run) -> None:
    (worker,) = run("pid")
    assert Path(f"/proc/{int(worker)}/oom_score_adj").read_text().strip() == "1000"


def test_workers_are_not_interrupted_by_ctrl_c(run: Run, pool: WorkerPool) -> None:
    worker = int(run("pid")[0])
    forkserver = pool._forkserver._process
    assert forkserver is not None
    groups = {os.getpgid(pid) for pid in (worker, forkserver.pid)}
    assert os.getpgid(0) not in groups
    assert len(groups) == 2


def test_a_job_whose_process_was_killed_from_outside_is_scored_again(run: Run, tmp_path: Path) -> None:
    """So that a kill changes no score: the artifact of a disturbed step equals that of an undisturbed one."""
    assert run("fine", f"killed once {tmp_path / 'file'}", "fine") == [5.0, 5.0, 5.0]


def test_a_job_that_is_killed_again_abstains(run: Run) -> None:
    assert run("killed", "fine") == [DIED, 5.0]


def test_a_forkserver_that_was_killed_is_replaced(run: Run, pool: WorkerPool) -> None:
    before = run("pid")[0]
    forkserver = pool._forkserver._process
    assert forkserver is not None
    os.kill(forkserver.pid, signal.SIGKILL)
    assert _soon(lambda: not _is_running(int(before)))
    assert run("fine", "fine", "fine") == [5.0, 5.0, 5.0]


def test_a_forkserver_that_does_not_start_is_reported() -> None:
    pool = WorkerPool(num_workers=1, preload=["no_such_module"])
    with pytest.raises(StepFailed, match="does not start"):
        pool.run([Job(Function(kind="json:loads"), Problem("a", "a"), (Completion("x", 1),), Context())])


def test_a_forkserver_that_hangs_while_it_imports_is_ended_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_module.py").write_text("import time; time.sleep(600)")
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = WorkerPool(num_workers=1, preload=["slow_module"], ready_seconds=1.5)
    with pytest.raises(StepFailed, match=r"did not get ready within 1.5 s; it imports slow_module"):
        pool.run([Job(Function(kind="json:loads"), Problem("a", "a"), (Completion("x", 1),), Context())])
    assert pool._forkserver._process is None


# The limit counts the processes of a user, and does not hold for root.
LIMITED = """
import os, resource, sys
from r1exp.records import Completion, Problem
from r1exp.rewards import workers
from r1exp.rewards.base import Context
from r1exp.rewards.function import Function
from r1exp.rewards.worker_process import Job
reward = Function(kind=sys.argv[1] + ":misbehaves", deadline=5.0)
jobs = [Job(reward, Problem("a", "a", "5"), (Completion(text, 1),), Context()) for text in ("pid", "die", "pid", "pid")]
workers._PATIENCE = 0.5
limit = lambda number: resource.prlimit(os.getpid(), resource.RLIMIT_NPROC, (number, 100))
limit(4)  # this process, the forkserver and two workers
pool = workers.WorkerPool(num_workers=4)
print(pool.run(jobs)[1][0].reason, len(pool._workers))
limit(100)
resource.prlimit(pool._forkserver._process.pid, resource.RLIMIT_NPROC, (100, 100))
pool.run(jobs)
print(len(pool._workers))
pool.close()
limit(2)
try:
    pool.run(jobs)
except workers.StepFailed as error:
    print(error)
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becomes a user without other processes"
)
def test_workers_that_cannot_be_forked_are_done_without(foreign: str) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    capabilities = "+dac_override,+dac_read_search"  # reads this Python, wherever it is
    user = ["setpriv", "--reuid=64123", f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"]
    command = [*user, sys.executable, "-c", LIMITED, foreign]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    first, second, third = run.stdout.splitlines()
    assert (first, second) == (f"{DIED.reason} 2", "4")
    assert third.startswith("no worker process for rewards could be started")


def test_functions_get_arguments_steps_and_tokens_and_may_be_factories_or_coroutines(run: Run) -> None:
    assert run("", function="at_step", arguments={"bonus": 0.5}) == [30.5]
    assert run("", function="make_constant", factory=True, arguments={"value": 2.0}) == [2.0]
    assert run("", function="later") == [1.0]
    assert run("ids") == [7.0]


def test_a_package_that_is_not_installed_is_refused() -> None:
    with pytest.raises(ValueError, match="'no_such_package', which Python does not find"):
        Function(kind="no_such_package.rewards:mine")


def test_the_children_of_a_killed_worker_are_killed(run: Run) -> None:
    assert run("grandchild") == [TIMEOUT]
    assert _soon(lambda: f"sleep 4711{os.getpid()}" not in _command_lines())


def test_workers_are_killed_when_their_parent_is_killed(tmp_path: Path, foreign: str) -> None:
    """Also while they run C code, in which no other thread of theirs can run."""
    script = f"""
        from r1exp.rewards.function import Function
        from r1exp.rewards.base import Context
        from r1exp.rewards.worker_process import Job
        from r1exp.rewards.workers import WorkerPool
        from r1exp.records import Completion, Problem
        reward = Function(kind="{foreign}:misbehaves", deadline=600.0)
        pool = WorkerPool(num_workers=1)
        pool.run([Job(reward, Problem("a", "a", "5"), (Completion("fine", 1),), Context())])
        print(pool._workers[0].pid, flush=True)
        pool.run([Job(reward, Problem("a", "a", "5"), (Completion("stuck", 1),), Context())])
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    time.sleep(0.3)  # until the loop has begun
    assert _is_running(worker)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _soon(lambda: not _is_running(worker))


def _soon(claim: Callable[[], bool]) -> bool:
    until = time.monotonic() + 5.0
    while not claim() and time.monotonic() < until:
        time.sleep(0.02)
    return claim()


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _command_lines() -> str:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return "\n".join(lines)
