"""A real SLURM cluster of three nodes on this machine: jobs to their end, a sweep, and everything that ends a job.

Needs root and the Debian packages slurm-wlm and munge; tests/integration/slurm_cluster.sh starts the cluster.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from r1exp.step.status import read_status

CLUSTER = Path(__file__).with_name("slurm_cluster.sh")
PATIENCE = 1500.0  # seconds; the machine may be busy
NUM_STEPS = 400  # enough that a fast machine is still at it when SLURM has taken note of what it is told
QUIET = ["evaluation.before=false", "evaluation.after=false", "dataset.num_train=200", "dataset.num_test=20"]
SLURM = [
    "launcher=slurm",
    "launcher.threads_per_process=1",
    "launcher.time=0:50:00",
    "launcher.signal_seconds=60",
]
SFT = [
    "stage=sft",
    "stage.rows_per_step=4",
    "trainer.save_strategy=steps",
    "trainer.logging_steps=1",
    *QUIET,
    *SLURM,
]

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start the cluster; where the packages are there and it does not start, the tests fail."""
    if os.getuid() != 0 or not (shutil.which("slurmctld") and shutil.which("munged")):
        pytest.skip("needs root and a SLURM: apt-get install slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([CLUSTER, "up", folder], check=True, timeout=120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.delenv("WANDB_API_KEY", raising=False)
        yield
        subprocess.run([CLUSTER, "down", folder], check=True, timeout=120)


def r1exp(folder: Path, *words: str, rc: int = 0) -> str:
    """Type a command in `folder` and return all it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "r1exp", *words], cwd=folder, text=True, timeout=PATIENCE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == rc, done.stdout
    return done.stdout


def slurm(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


def wait_for(is_so: Callable[[], bool], run: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, told(run)
        time.sleep(0.1)


def told(run: Path) -> str:
    """Return all that a run's job has printed."""
    return "\n".join(
        path.read_text(errors="replace") for path in [run / "slurm.log", *run.glob("steps/*/log*.txt")]
    )


def content(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def job_of(run: Path) -> str:
    return str(content(run / "job.json")["ids"][-1])


def queued(*numbers: str) -> str:
    """Return what squeue shows of jobs that are not over; nothing if all are."""
    return slurm("squeue", "--noheader", f"--jobs={','.join(numbers)}")


def step_of(run: Path) -> Path:
    return run / "steps" / "01-sft"


def optimizer_steps(run: Path) -> int:
    path = step_of(run) / "metrics.jsonl"
    return (
        int(json.loads(path.read_text().splitlines()[-1])["step"])
        if path.exists() and path.read_text()
        else 0
    )


def weights(run: Path) -> bytes:
    return (step_of(run) / "artifact" / "model.safetensors").read_bytes()


def done(run: Path) -> bool:
    """Whether the run came to its end; a run that failed for good fails the test at once."""
    status = read_status(step_of(run)) if step_of(run).exists() else None
    if status is not None and status.state in ("failed", "stopped"):
        # SLURM ends the tasks of a job that it requeues before the job's own process, which still says so.
        assert queued(job_of(run)), f"{status}\n{told(run)}"
    return (run / "summary.json").exists() and content(run / "summary.json")["state"] == "done"


def wait_until_requeued(run: Path) -> None:
    """Wait until the job says so; a run that comes to its end before fails the test at once."""
    wait_for(lambda: "back into the queue" in told(run) or done(run), run)
    assert "back into the queue" in told(run), f"the run was done too early\n{told(run)}"


def test_rl_over_two_nodes_ends_with_a_trained_model(tmp_path: Path) -> None:
    words = [
        "stage=rl",
        "max_steps=2",
        "algorithm.prompts_per_step=2",
        "num_generations=2",
        "max_completion_length=8",
    ]
    words += [*QUIET, *SLURM, "launcher.nodes=2", "launcher.wait=true", "tracking=none", "paths.run=a run"]
    printed = r1exp(tmp_path, *words)
    assert "done in" in printed
    step = content(tmp_path / "a run" / "steps" / "01-grpo" / "step.json")
    assert step["world_size"] == 2
    assert (tmp_path / "a run" / "steps" / "01-grpo" / "artifact" / "model.safetensors").exists()
    assert (tmp_path / "a run" / "steps" / "01-grpo" / "log-rank-1.txt").exists()  # it ran on the other node
    assert "1 runs: 1 done" in r1exp(tmp_path, "sweep", "status", "a run")


def test_a_sweep_is_submitted_at_once_and_what_failed_is_run_again(tmp_path: Path) -> None:
    for number in range(6):
        rows = [{"question": f"{number} + {other}?", "answer": str(number + other)} for other in range(40)]
        text = "".join(json.dumps({**row, "solution": "count"}) + "\n" for row in rows)
        (tmp_path / f"{number}.jsonl").write_text(text)
    files = ",".join(f"{number}.jsonl" for number in range(6))
    words = [
        "stage=sft",
        "stage.rows_per_step=4",
        "max_steps=2",
        "evaluation.before=false",
        "evaluation.after=false",
    ]
    words += [
        "dataset=jsonl",
        f"dataset.path={files}",
        "dataset.num_test=5",
        "tracking=none",
        "name=six",
        *SLURM,
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    r1exp(tmp_path, "-m", *words, "launcher.extra=['--hold']")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # What the command computed: how long it takes on a machine that has nothing else to do.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10.0
    (sweep,) = tmp_path.glob("runs/*/*-six-sweep")
    numbers = [str(row["job_id"]) for row in content(sweep / "sweep.json")]
    assert len(set(numbers)) == 6
    assert "6 runs: 6 pending" in r1exp(tmp_path, "sweep", "status", str(sweep))
    (tmp_path / "3.jsonl").rename(tmp_path / "away.jsonl")

    slurm("scontrol", "release", ",".join(numbers))

    def over() -> bool:
        return not queued(*numbers)

    wait_for(over, sweep / "3")
    table = r1exp(tmp_path, "sweep", "status", str(sweep))
    assert "6 runs: 5 done, 1 failed" in table, table
    assert "3.jsonl" in table
    (tmp_path / "away.jsonl").rename(tmp_path / "3.jsonl")
    assert r1exp(tmp_path, "sweep", "retry", str(sweep)).startswith("1 of 6 runs start again")
    slurm("scontrol", "release", job_of(sweep / "3"))
    wait_for(lambda: done(sweep / "3"), sweep / "3")
    wait_for(lambda: not queued(job_of(sweep / "3")), sweep / "3")
    assert "6 runs: 6 done" in r1exp(tmp_path, "sweep", "status", str(sweep))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    r1exp(
        folder,
        *SFT,
        f"max_steps={NUM_STEPS}",
        "trainer.save_steps=10",
        "tracking=none",
        "paths.run=run",
        "launcher.wait=true",
    )
    return folder / "run"


def begin(folder: Path, save_steps: int) -> Path:
    """Start the same run and return its directory as soon as it is in mid training."""
    words = [*SFT, f"max_steps={NUM_STEPS}", f"trainer.save_steps={save_steps}", "tracking.mode=offline"]
    r1exp(folder, *words, "paths.run=run")
    run = folder / "run"
    wait_for(lambda: optimizer_steps(run) >= 12, run)
    return run


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Return the directory of the same run, in mid training."""
    return begin(tmp_path, save_steps=10)


def test_a_job_told_to_end_saves_goes_back_into_the_queue_and_ends_with_the_same_weights(
    calm: Path, tmp_path: Path
) -> None:
    begun = begin(tmp_path, save_steps=1000)  # no checkpoint but the one that it saves when told to end
    slurm("scancel", "--signal=USR1", "--batch", job_of(begun))
    wait_until_requeued(begun)
    status = read_status(step_of(begun))
    assert status is not None and status.state in ("preempted", "running")
    wait_for(lambda: done(begun), begun)
    assert told(begun).count("begins from checkpoint-") == 1
    assert weights(begun) == weights(calm)
    ids = {path.name.rpartition("-")[2] for path in step_of(begun).glob("wandb/offline-run-*")}
    assert len(ids) == 1  # both attempts are one W&B run


def test_a_job_that_is_requeued_ends_with_the_same_weights(calm: Path, begun: Path) -> None:
    slurm("scontrol", "requeue", job_of(begun))
    wait_for(lambda: done(begun), begun)
    assert "begins from checkpoint-" in told(begun)
    assert weights(begun) == weights(calm)


def test_a_job_makes_room_for_an_urgent_one_and_goes_on_afterwards(calm: Path, begun: Path) -> None:
    """SLURM's own preemption sends SIGTERM to the tasks of srun, and to nothing else."""
    urgent = ["sbatch", "--parsable", "--partition=urgent", "--nodes=3", "--exclusive", "--output=/dev/null"]
    slurm(*urgent, "--wrap=sleep 5")
    wait_until_requeued(begun)
    wait_for(lambda: done(begun), begun)
    assert weights(begun) == weights(calm)


def test_a_job_whose_node_goes_down_ends_on_another_one(calm: Path, begun: Path) -> None:
    node = slurm("squeue", "--noheader", "--format=%N", f"--jobs={job_of(begun)}").strip()
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        wait_for(lambda: done(begun), begun)
    finally:
        slurm("scontrol", "update", f"nodename={node}", "state=resume")
    assert weights(begun) == weights(calm)


def test_two_nodes_save_at_the_same_step(tmp_path: Path) -> None:
    run = tmp_path / "run"
    r1exp(
        tmp_path,
        *SFT,
        "max_steps=4000",
        "launcher.nodes=2",
        "tracking=none",
        "paths.run=run",
        "launcher.requeue=false",
    )
    wait_for(lambda: optimizer_steps(run) >= 3, run)
    slurm("scancel", "--signal=USR1", "--batch", job_of(run))
    wait_for(lambda: (run / "summary.json").exists(), run)
    status = read_status(step_of(run))
    assert status is not None and (status.state, status.checkpoint is None) == ("preempted", False), told(run)
    table = r1exp(tmp_path, "sweep", "status", "run")
    assert "preempted" in table and "`r1exp sweep retry run` starts 1 of them again" in table


@pytest.mark.skipif(find_spec("vllm") is None, reason="needs vLLM: type make vllm")
def test_a_server_has_a_node_of_its_own_for_an_evaluation(tmp_path: Path) -> None:
    words = ["stage=evaluate", "rollout=vllm_server", f"rollout.start_timeout={PATIENCE}", "debug=fast"]
    words += [*SLURM, "launcher.server_nodes=1", "launcher.wait=true", "tracking=none", "paths.run=run"]
    r1exp(tmp_path, *words)
    step = tmp_path / "run" / "steps" / "01-evaluate"
    assert content(step / "artifact" / "scores.json")["summary"]["sampled"]["n"] == 16
    assert content(step / "server.json")["node"] == "n2"
    assert "vLLM server: ready" in told(tmp_path / "run")


def test_a_cancelled_job_stays_cancelled(begun: Path) -> None:
    slurm("scancel", job_of(begun))
    wait_for(lambda: not queued(job_of(begun)), begun)
    time.sleep(8)  # a requeued job would be back by then
    assert not queued(job_of(begun))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["launcher.partition=nowhere"], "invalid partition", id="partition"),
        pytest.param(
            ["launcher.nodes=9", "stage.rows_per_step=9"], "launcher.nodes", id="more nodes than there are"
        ),
    ],
)
def test_a_job_that_slurm_would_not_take_is_refused_before_anything_is_written(
    words: list[str], message: str, tmp_path: Path
) -> None:
    assert message in r1exp(tmp_path, *SFT, *words, rc=2)
    assert list(tmp_path.iterdir()) == []
