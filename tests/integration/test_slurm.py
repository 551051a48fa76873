"""Jobs, a sweep, and the ways in which a job ends, on a real SLURM cluster of three nodes on this machine.

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
TIMEOUT = 1500.0  # seconds; the machine may have other load
NUM_STEPS = 400  # optimizer steps; enough that a fast machine is still training when SLURM acts
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
    """Start the cluster; if the packages are installed and it does not start, the tests fail."""
    if os.getuid() != 0 or not (shutil.which("slurmctld") and shutil.which("munged")):
        pytest.skip("needs root and SLURM: apt-get install slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([CLUSTER, "up", folder], check=True, timeout=120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.delenv("WANDB_API_KEY", raising=False)
        yield
        subprocess.run([CLUSTER, "down", folder], check=True, timeout=120)


def r1exp(folder: Path, *arguments: str, rc: int = 0) -> str:
    """Run a command in `folder` and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "r1exp", *arguments], cwd=folder, text=True, timeout=TIMEOUT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == rc, done.stdout
    return done.stdout


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def wait_for(condition: Callable[[], bool], run: Path) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, output(run)
        time.sleep(0.1)


def output(run: Path) -> str:
    """Return all output of a run's job."""
    return "\n".join(
        path.read_text(errors="replace") for path in [run / "slurm.log", *run.glob("steps/*/log*.txt")]
    )


def content(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def job_of(run: Path) -> str:
    return str(content(run / "job.json")["ids"][-1])


def queued(*numbers: str) -> str:
    """Return the lines of squeue about jobs that have not ended."""
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
    """Whether the run is done; a run that failed finally fails the test at once."""
    status = read_status(step_of(run)) if step_of(run).exists() else None
    if status is not None and status.state in ("failed", "stopped"):
        # SLURM ends the tasks of a job that it requeues before the job's own process, so that a step may fail first.
        assert queued(job_of(run)), f"{status}\n{output(run)}"
    return (run / "summary.json").exists() and content(run / "summary.json")["state"] == "done"


def wait_until_requeued(run: Path) -> None:
    """Wait until the job reports it; a run that is done before fails the test at once."""
    line = f"job {job_of(run)}: requeued"
    wait_for(lambda: line in output(run) or done(run), run)
    assert line in output(run), f"the run was done too early\n{output(run)}"


def test_rl_on_two_nodes_trains_a_model(tmp_path: Path) -> None:
    overrides = [
        "stage=rl",
        "max_steps=2",
        "algorithm.prompts_per_step=2",
        "num_generations=2",
        "max_completion_length=8",
    ]
    overrides += [
        *QUIET,
        *SLURM,
        "launcher.nodes=2",
        "launcher.wait=true",
        "tracking=none",
        "paths.run=a run",
    ]
    printed = r1exp(tmp_path, *overrides)
    assert "done in" in printed
    step = content(tmp_path / "a run" / "steps" / "01-grpo" / "step.json")
    assert step["world_size"] == 2
    assert (tmp_path / "a run" / "steps" / "01-grpo" / "artifact" / "model.safetensors").exists()
    assert (
        tmp_path / "a run" / "steps" / "01-grpo" / "log-rank-1.txt"
    ).exists()  # of the rank on the other node
    assert "1 runs: 1 done" in r1exp(tmp_path, "sweep", "status", "a run")
    printed = r1exp(tmp_path, *overrides[:-1], "paths.run=the same again")
    assert "reused from a run" in printed
    assert not (tmp_path / "the same again" / "job.json").exists()


def test_a_sweep_is_submitted_at_once_and_failed_members_are_retried(tmp_path: Path) -> None:
    for number in range(6):
        rows = [{"question": f"{number} + {other}?", "answer": str(number + other)} for other in range(40)]
        text = "".join(json.dumps({**row, "solution": "count"}) + "\n" for row in rows)
        (tmp_path / f"{number}.jsonl").write_text(text)
    files = ",".join(f"{number}.jsonl" for number in range(6))
    overrides = [
        "stage=sft",
        "stage.rows_per_step=4",
        "max_steps=2",
        "evaluation.before=false",
        "evaluation.after=false",
    ]
    overrides += [
        "dataset=jsonl",
        f"dataset.path={files}",
        "dataset.num_test=5",
        "tracking=none",
        "name=six",
        *SLURM,
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    r1exp(tmp_path, "-m", *overrides, "launcher.extra=['--hold']")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # CPU seconds of the command, which other load on the machine does not change.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10.0
    (sweep,) = tmp_path.glob("runs/*/*-six-sweep")
    numbers = [str(row["job_id"]) for row in content(sweep / "sweep.json")]
    array = numbers[0].partition("_")[0]
    assert numbers == [f"{array}_{index}" for index in range(6)]
    assert "6 runs: 6 pending" in r1exp(tmp_path, "sweep", "status", str(sweep))
    (tmp_path / "3.jsonl").rename(tmp_path / "away.jsonl")

    slurm("scontrol", "release", ",".join(numbers))

    def have_ended() -> bool:
        return not queued(*numbers)

    wait_for(have_ended, sweep / "3")
    table = r1exp(tmp_path, "sweep", "status", str(sweep))
    assert "6 runs: 5 done, 1 failed" in table, table
    assert "3.jsonl" in table
    (tmp_path / "away.jsonl").rename(tmp_path / "3.jsonl")
    assert r1exp(tmp_path, "sweep", "retry", str(sweep)).startswith("1 of 6 runs are restarted")
    slurm("scontrol", "release", job_of(sweep / "3"))
    wait_for(lambda: done(sweep / "3"), sweep / "3")
    wait_for(lambda: not queued(job_of(sweep / "3")), sweep / "3")
    assert "6 runs: 6 done" in r1exp(tmp_path, "sweep", "status", str(sweep))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
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


def start(folder: Path, save_steps: int) -> Path:
    """Start the same run and return its directory when it has taken 12 optimizer steps."""
    overrides = [*SFT, f"max_steps={NUM_STEPS}", f"trainer.save_steps={save_steps}", "tracking.mode=offline"]
    r1exp(folder, *overrides, "paths.run=run")
    run = folder / "run"
    wait_for(lambda: optimizer_steps(run) >= 12, run)
    return run


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """Return the directory of the same run, after 12 optimizer steps."""
    return start(tmp_path, save_steps=10)


def test_a_signalled_job_saves_is_requeued_and_ends_with_the_same_weights(
    whole: Path, tmp_path: Path
) -> None:
    started = start(tmp_path, save_steps=1000)  # its only checkpoint is the one saved after the signal
    slurm("scancel", "--signal=USR1", "--batch", job_of(started))
    wait_until_requeued(started)
    status = read_status(step_of(started))
    assert status is not None and status.state in ("preempted", "running")
    wait_for(lambda: done(started), started)
    assert output(started).count("starts from checkpoint-") == 1
    assert weights(started) == weights(whole)
    ids = {path.name.rpartition("-")[2] for path in step_of(started).glob("wandb/offline-run-*")}
    assert len(ids) == 1  # both starts are one W&B run


def test_an_element_of_an_array_is_requeued_alone_and_no_more_run_than_typed(
    whole: Path, tmp_path: Path
) -> None:
    overrides = [*SFT, f"max_steps={NUM_STEPS}", "trainer.save_steps=10", "tracking=none"]
    r1exp(tmp_path, "-m", *overrides, "seed=1,2", "sweep.parallel=1", "hydra.sweep.dir=sweep")
    first, second = tmp_path / "sweep" / "0", tmp_path / "sweep" / "1"
    wait_for(lambda: optimizer_steps(first) >= 12, first)
    table = r1exp(tmp_path, "sweep", "status", "sweep")
    assert "1 running, 1 pending" in table and "JobArrayTaskLimit" in table, table
    slurm("scancel", "--signal=USR1", "--batch", job_of(first))
    wait_until_requeued(first)
    slurm("scancel", job_of(second))
    wait_for(lambda: done(first), first)
    assert output(first).count("starts from checkpoint-") == 1
    assert weights(first) == weights(whole)


def test_a_requeued_job_ends_with_the_same_weights(whole: Path, started: Path) -> None:
    slurm("scontrol", "requeue", job_of(started))
    wait_for(lambda: done(started), started)
    assert "starts from checkpoint-" in output(started)
    assert weights(started) == weights(whole)


def test_a_job_preempted_by_an_urgent_one_continues_afterwards(whole: Path, started: Path) -> None:
    """SLURM's own preemption sends SIGTERM only to the tasks of srun."""
    urgent = ["sbatch", "--parsable", "--partition=urgent", "--nodes=3", "--exclusive", "--output=/dev/null"]
    slurm(*urgent, "--wrap=sleep 5")
    wait_until_requeued(started)
    wait_for(lambda: done(started), started)
    assert weights(started) == weights(whole)


def test_a_job_whose_node_fails_continues_on_another_node(whole: Path, started: Path) -> None:
    node = slurm("squeue", "--noheader", "--format=%N", f"--jobs={job_of(started)}").strip()
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        wait_for(lambda: done(started), started)
    finally:
        slurm("scontrol", "update", f"nodename={node}", "state=resume")
    assert weights(started) == weights(whole)


def test_two_nodes_save_at_the_same_optimizer_step(tmp_path: Path) -> None:
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
    assert status is not None and (status.state, status.checkpoint is None) == ("preempted", False), output(
        run
    )
    wait_for(lambda: not queued(job_of(run)), run)
    table = r1exp(tmp_path, "sweep", "status", "run")
    assert "preempted" in table and "`r1exp sweep retry run` restarts 1 of them" in table


@pytest.mark.skipif(find_spec("vllm") is None, reason="needs vLLM: type make vllm")
def test_a_server_has_its_own_node_for_an_evaluation(tmp_path: Path) -> None:
    overrides = ["stage=evaluate", "rollout=vllm_server", f"rollout.start_timeout={TIMEOUT}", "debug=fast"]
    overrides += [*SLURM, "launcher.server_nodes=1", "launcher.wait=true", "tracking=none", "paths.run=run"]
    r1exp(tmp_path, *overrides)
    step = tmp_path / "run" / "steps" / "01-evaluate"
    assert content(step / "artifact" / "scores.json")["summary"]["sampled"]["n"] == 16
    assert content(step / "server.json")["node"] == "n2"
    assert "vLLM server: ready" in output(tmp_path / "run")


def test_a_canceled_job_stays_canceled_until_its_run_is_named(started: Path) -> None:
    slurm("scancel", job_of(started))
    wait_for(lambda: not queued(job_of(started)), started)
    time.sleep(8)  # longer than a requeued job needs to be listed again
    assert not queued(job_of(started))
    assert f"job {job_of(started)}: canceled" in output(started)
    # Also when SLURM no longer knows the job, as some minutes after its end on most clusters.
    assert content(started / "job.json")["canceled"] == [int(job_of(started))]
    table = r1exp(started.parent, "sweep", "status", "run")
    assert (
        "1 runs: 1 canceled" in table
        and "ended with scancel; `r1exp sweep retry run` starts it again" in table
    )
    assert "restarts" not in table


def test_members_canceled_in_the_queue_are_listed_and_not_retried(tmp_path: Path) -> None:
    overrides = ["-m", "seed=1,2,3", "max_steps=2", *SFT, "tracking=none", "hydra.sweep.dir=sweep"]
    r1exp(tmp_path, *overrides, "launcher.extra=['--hold']")
    sweep = tmp_path / "sweep"
    slurm("scancel", job_of(sweep / "1"))
    slurm("scontrol", "release", job_of(sweep / "0"))
    wait_for(lambda: done(sweep / "0"), sweep / "0")
    table = r1exp(tmp_path, "sweep", "status", "sweep")
    assert "1 done" in table and "1 canceled" in table and "1 pending" in table, table
    assert r1exp(tmp_path, "sweep", "retry", "sweep").startswith("0 of 3 runs are restarted")
    report = r1exp(tmp_path, "sweep", "report", "sweep")
    assert "2 runs are left out because they have not finished" in report, report
    assert "* 1, canceled: ended with scancel" in report
    assert "* 2, pending: JobHeldUser" in report
    assert r1exp(tmp_path, "sweep", "retry", "sweep/1").startswith("1 of 1 runs are restarted")
    slurm("scancel", job_of(sweep / "1"), job_of(sweep / "2"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(["launcher.partition=nowhere"], "invalid partition", id="partition"),
        pytest.param(["launcher.nodes=9", "stage.rows_per_step=9"], "launcher.nodes", id="too many nodes"),
        pytest.param(["launcher.extra=['--gres=gpu:9']"], "lower launcher.gpus_per_node", id="no such GPUs"),
        pytest.param(
            ["launcher.time=2:00:00"], "above the time limit of the partition (main 01:00:00)", id="time"
        ),
    ],
)
def test_a_job_that_slurm_would_reject_is_refused_before_anything_is_written(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    assert message in r1exp(tmp_path, *SFT, *overrides, rc=2)
    assert list(tmp_path.iterdir()) == []
