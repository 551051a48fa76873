"""Talking to SLURM: submit, ask, requeue. The only file that calls sbatch, squeue and scontrol."""

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1exp.errors import Refused, StepFailed

_COMMANDS = ("sbatch", "srun", "squeue", "scontrol")
_PATIENCE = 60.0  # seconds for an answer of the controller
# What sbatch says -> what a person types next.
_ADVICE = (
    ("partition", "launcher.partition=... takes one that `sinfo -s` lists"),
    ("account", "launcher.account=... takes one that `sacctmgr show assoc user=$USER` lists"),
    ("qos", "launcher.qos=... takes one that `sacctmgr show qos` lists"),
    ("time limit", "lower launcher.time, or use a partition with a longer limit: `sinfo -s`"),
    ("feature", "launcher.constraint=... takes features that `sinfo -o '%n %f'` lists"),
    ("node count", "lower launcher.nodes, or use a larger partition: `sinfo -s`"),
    (
        "node configuration",
        "lower launcher.nodes, gpus_per_node or cpus_per_node: `sinfo -o '%n %t %c %G'` lists all",
    ),
    ("contact slurm controller", "the controller does not answer: `scontrol ping`"),
)
# States of a job that is not over. Slurm 22.05, man squeue.
ALIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "STOPPED",
     "RESIZING", "SIGNALING", "STAGE_OUT", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What SLURM says about a job."""

    state: str  # PENDING, RUNNING, COMPLETED, ...
    reason: str  # why it waits or ended

    @property
    def is_alive(self) -> bool:
        """Whether it runs or will run."""
        return self.state in ALIVE


def missing_commands() -> list[str]:
    """Return which of SLURM's commands are not installed here."""
    return [name for name in _COMMANDS if shutil.which(name) is None]


def refuse_without_slurm() -> None:
    """Raise Refused where there is no SLURM to submit to."""
    missing = missing_commands()
    if missing:
        raise Refused(
            f"launcher=slurm needs {', '.join(missing)}, not installed here; type the command on a login node of "
            "your cluster, or use launcher=ddp. `r1exp plan` shows the job without submitting it"
        )


def check_job(script: str) -> None:
    """Ask SLURM whether it would take a job, without submitting it.

    Raises:
        Refused: it would not; nothing was submitted.
    """
    answer = _ask(["sbatch", "--test-only"], text=script)
    if answer.returncode != 0:
        raise Refused(f"SLURM does not take the job: {_reason(answer)}")


def submit(script: Path) -> int:
    """Submit a job script in its own folder and return the job's id.

    Raises:
        StepFailed: SLURM does not take it.
    """
    answer = _ask(["sbatch", "--parsable", script.name], folder=script.parent)
    if answer.returncode != 0:
        raise StepFailed(f"SLURM did not take {script}: {_reason(answer)}")
    return int(answer.stdout.strip().partition(";")[0])


def jobs(ids: Iterable[int]) -> dict[int, Job]:
    """Return what SLURM still knows about jobs; it forgets those that ended some minutes ago.

    Raises:
        StepFailed: SLURM does not answer.
    """
    asked = ",".join(str(number) for number in ids)
    if not asked:
        return {}
    answer = _ask(["squeue", "--noheader", "--states=all", "--format=%i|%T|%r", f"--jobs={asked}"])
    if answer.returncode != 0 and "Invalid job id" not in answer.stderr:
        raise StepFailed(f"squeue does not answer: {_reason(answer)}")
    rows = [line.split("|", 2) for line in answer.stdout.splitlines() if line.count("|") >= 2]
    return {int(number): Job(state, reason) for number, state, reason in rows}


def requeue(job: int) -> None:
    """Put a running job back into the queue, which ends its processes.

    Raises:
        StepFailed: SLURM does not let it.
    """
    answer = _ask(["scontrol", "requeue", str(job)])
    if answer.returncode != 0:
        raise StepFailed(
            f"job {job} cannot be requeued: {_reason(answer)}; `r1exp sweep retry` submits it again"
        )


def _ask(
    words: Sequence[str], text: str | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words, input=text, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except FileNotFoundError as error:
        raise Refused(
            f"{words[0]} is not installed here; type this on a login node of your cluster"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise StepFailed(
            f"`{words[0]}` did not answer within {_PATIENCE:g} s; see `scontrol ping`"
        ) from error


def _reason(answer: subprocess.CompletedProcess[str]) -> str:
    said = [line.partition("error: ")[2] or line for line in answer.stderr.splitlines() if line.strip()]
    text = "; ".join(dict.fromkeys(said)) or f"exit status {answer.returncode}"
    lowered = text.lower()
    advice = next((advice for words, advice in _ADVICE if words in lowered), None)
    return f"{text}{f'. {advice}' if advice else ''}"
