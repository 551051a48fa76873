"""Submits, queries and requeues SLURM jobs. The only file that calls sbatch, squeue and scontrol."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1exp.errors import Refused, StepFailed

JobId = int | str  # of a job; `123_4` of element 4 of the array 123
_MOST_ELEMENTS = (
    1001  # MaxArraySize of a cluster that does not state it; the indices of an array are below it
)
_COMMANDS = ("sbatch", "srun", "squeue", "scontrol")
_TIMEOUT = 60.0  # seconds for a response of the controller
_AT_ONCE = (
    5000  # jobs in one request: Linux takes no argument above 128 KiB, which 13,000 ids of nine digits reach
)
# Part of an error of sbatch, in lower case -> what to type next.
_ADVICE = (
    ("partition", "launcher.partition=... takes one that `sinfo -s` lists"),
    ("account", "launcher.account=... takes one that `sacctmgr show assoc user=$USER` lists"),
    ("qos", "launcher.qos=... takes one that `sacctmgr show qos` lists"),
    ("time limit", "lower launcher.time, or use a partition with a longer limit: `sinfo -s`"),
    (
        "gres",
        "lower launcher.gpus_per_node, or correct launcher.extra: `sinfo -o '%n %G'` lists the GPUs of each node",
    ),
    ("feature", "launcher.constraint=... takes features that `sinfo -o '%n %f'` lists"),
    ("node count", "lower launcher.nodes, or use a larger partition: `sinfo -s`"),
    (
        "node configuration",
        "lower launcher.nodes, gpus_per_node or cpus_per_node: `sinfo -o '%n %t %c %G'` lists all",
    ),
    ("contact slurm controller", "the controller does not answer: `scontrol ping`"),
)
# States of a job that has not ended. Slurm 22.05, man squeue.
ALIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "STOPPED",
     "RESIZING", "SIGNALING", "STAGE_OUT", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """State of a job as SLURM reports it."""

    state: str  # PENDING, RUNNING, COMPLETED, ...
    reason: str  # why it is pending or ended

    @property
    def is_alive(self) -> bool:
        """Whether the job runs or will run."""
        return self.state in ALIVE

    @property
    def is_canceled(self) -> bool:
        """Whether a user, or an administrator, ended it with scancel."""
        return self.state == "CANCELLED"


def missing_commands() -> list[str]:
    """Return which of SLURM's commands are not installed on this machine."""
    return [name for name in _COMMANDS if shutil.which(name) is None]


def refuse_without_slurm() -> None:
    """Raise Refused if SLURM's commands are not installed on this machine."""
    missing = missing_commands()
    if missing:
        raise Refused(
            f"launcher=slurm needs {', '.join(missing)}, not installed here; type the command on a login node of "
            "your cluster, or use launcher=ddp. `r1exp plan --launch` shows the job without submitting it"
        )


def check_job(script: str) -> None:
    """Check with SLURM that it would accept a job, without submitting it.

    Raises:
        Refused: SLURM would reject the job; nothing was submitted.
    """
    result = _run(["sbatch", "--test-only"], text=script)
    if result.returncode != 0:
        raise Refused(f"SLURM rejects the job: {_reason(result)}")


def submit(script: Path) -> int:
    """Submit a job script in its own folder and return the job's id.

    Raises:
        StepFailed: SLURM rejects the job.
    """
    result = _run(["sbatch", "--parsable", script.name], folder=script.parent)
    if result.returncode != 0:
        raise StepFailed(f"SLURM rejected {script}: {_reason(result)}")
    return int(result.stdout.strip().partition(";")[0])


def this_job() -> JobId:
    """Return the id of the job, or of the element of an array, in which this process runs."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    element = os.environ.get("SLURM_ARRAY_TASK_ID")
    return int(os.environ["SLURM_JOB_ID"]) if not array or not element else f"{array}_{element}"


def array_size() -> int:
    """Return the number of indices that an array may have on this cluster."""
    result = _run(["scontrol", "show", "config"])
    for line in result.stdout.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize" and value.strip().isdigit():
            return max(1, int(value))
    return _MOST_ELEMENTS


def _id_of(text: str) -> JobId:
    return int(text) if text.isdigit() else text


def jobs(ids: Iterable[JobId]) -> dict[JobId, Job]:
    """Return the state of each job that SLURM still lists; it drops jobs some minutes after their end.

    Raises:
        StepFailed: SLURM does not answer.
    """
    numbers = list(ids)
    found: dict[JobId, Job] = {}
    for start in range(0, len(numbers), _AT_ONCE):
        listed = ",".join(map(str, numbers[start : start + _AT_ONCE]))
        result = _run(
            ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={listed}"]
        )
        if result.returncode != 0 and "Invalid job id" not in result.stderr:
            raise StepFailed(f"squeue does not answer: {_reason(result)}")
        rows = [line.split("|", 2) for line in result.stdout.splitlines() if line.count("|") >= 2]
        found |= {_id_of(number.strip()): Job(state, reason) for number, state, reason in rows}
    return found


def is_being_canceled(job: JobId, restarts: int) -> bool:
    """Whether a job that was told to end was canceled, and not preempted or requeued.

    While its processes end, SLURM calls a job COMPLETING, whatever ended it. A job that is requeued has been counted as
    restarted by then, and one at its time limit has used its time.

    Args:
        job: Its id.
        restarts: How often it had been restarted when its processes started.
    """
    result = _run(["scontrol", "show", "job", "--oneliner", str(job)])
    values = dict(part.partition("=")[::2] for part in result.stdout.split())
    state = values.get("JobState")
    if state != "COMPLETING":
        return state == "CANCELLED"
    used, limit = seconds_of(values.get("RunTime", "")), seconds_of(values.get("TimeLimit", ""))
    is_over = used is not None and limit is not None and used >= limit
    return values.get("Restarts") == str(restarts) and not is_over


def time_limits(partition: str | None) -> dict[str, float | None]:
    """Return the time limit of each partition that a job may go to, in seconds; None for one without a limit.

    Args:
        partition: Names with commas; None: the cluster's default. Without a default, or where SLURM does not say, nothing is returned.
    """
    chosen = [] if partition is None else [f"--partition={partition}"]
    result = _run(["sinfo", "--noheader", "--format=%P|%l", *chosen])
    rows = [line.strip().split("|") for line in result.stdout.splitlines() if line.count("|") == 1]
    return {
        name.rstrip("*"): seconds_of(limit)
        for name, limit in rows
        if partition is not None or name.endswith("*")
    }


def seconds_of(limit: str) -> float | None:
    """Return the seconds of a time limit as sbatch and sinfo write it; None for no limit, or for text that is none.

    M, M:S, H:M:S, D-H, D-H:M or D-H:M:S (man sbatch).
    """
    days, dash, rest = limit.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in [*parts, days or "0"]) or len(parts) > 3:
        return None
    values = [int(part) for part in parts]
    if not dash:
        values = [0, *values] if len(values) < 3 else values  # minutes come first
    hours, minutes, seconds = [*values, 0, 0][:3]
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60.0 + seconds
    return total or None  # 0: no limit


def requeue(job: JobId) -> None:
    """Put a running job back into the queue, which ends its processes.

    Raises:
        StepFailed: SLURM refuses to.
    """
    result = _run(["scontrol", "requeue", str(job)])
    if result.returncode != 0:
        raise StepFailed(
            f"job {job} cannot be requeued: {_reason(result)}; `r1exp sweep retry` submits it again"
        )


def _run(
    command: Sequence[str], text: str | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, input=text, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except FileNotFoundError as error:
        raise Refused(
            f"{command[0]} is not installed here; type this on a login node of your cluster"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise StepFailed(
            f"`{command[0]}` did not answer within {_TIMEOUT:g} s; see `scontrol ping`"
        ) from error


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    """Return the error that a command of SLURM reports, and what to type next."""
    lines = [line.partition("error: ")[2] or line for line in result.stderr.splitlines() if line.strip()]
    text = "; ".join(dict.fromkeys(lines)) or f"exit status {result.returncode}"
    lowered = text.lower()
    advice = next((advice for part, advice in _ADVICE if part in lowered), None)
    return f"{text}{f'. {advice}' if advice else ''}"
