"""What does SLURM get to read: the script of a job, and the words in front of what runs on other nodes?

The job's own process, `python -m r1exp.runner.slurm_entry RUN`, runs on the first node of the ranks and starts every
step with one task of srun a node. A vLLM server's node comes after those of the ranks.
"""

import os
import shlex
import sys
from pathlib import Path
from string import Template

from r1exp.launcher.settings import Slurm

JOB_VARIABLE = "R1EXP_JOB"  # set in a job of ours, and nowhere else
_PORTS = 20_000, 10_000  # the first and the number of rendezvous ports, below what Linux hands out by itself
_NAME_LENGTH = 60  # letters of a job's name


def job_text(settings: Slurm, name: str, workplace: Path, run: Path, templates: Path) -> str:
    """Return the script of a run's job.

    Args:
        settings: The launcher.
        name: Of the run.
        workplace: The folder the command was typed in; relative paths count from there.
        run: The run directory.
        templates: launchers/, with job.sbatch.
    """
    return Template((templates / "job.sbatch").read_text(encoding="utf-8")).substitute(
        mark=JOB_VARIABLE,
        options="\n".join(f"#SBATCH {option}" for option in _options(settings, name)),
        workplace=shlex.quote(str(workplace)),
        setup="".join(f"{line}\n" for line in settings.setup),
        python=shlex.quote(sys.executable),
        run=shlex.quote(str(run)),
    )


def _options(settings: Slurm, name: str) -> list[str]:
    """Return sbatch's options, one a line."""
    options = [
        f"--job-name={_quoted(' '.join(name.split())[:_NAME_LENGTH])}",
        f"--nodes={settings.nodes + settings.server_nodes}",
        "--ntasks-per-node=1",
        f"--time={settings.time}",
        f"--signal=B:USR1@{settings.signal_seconds}",
        "--requeue" if settings.requeue else "--no-requeue",
        "--output=slurm.log",
        "--open-mode=append",
    ]
    if settings.gpus_per_node:
        options.append(f"--gpus-per-node={settings.gpus_per_node}")
    if settings.cpus_per_node is not None:
        options.append(f"--cpus-per-task={settings.cpus_per_node}")
    for key in ("partition", "account", "qos", "constraint"):
        value = getattr(settings, key)
        if value is not None:
            options.append(f"--{key}={_quoted(value)}")
    for option in settings.extra:
        key, equals, value = option.partition("=")
        options.append(f"{key}={_quoted(value)}" if equals else option)
    return options


def _quoted(value: str) -> str:
    """Return a value of a #SBATCH line; Slurm 22.05 reads quotes as a shell does, and a backslash inside them too."""
    return shlex.quote(value.replace("\\", "\\\\"))


def on_ranks_nodes(settings: Slurm) -> list[str]:
    """Return the words that start one task on each node of the ranks."""
    first = ["--relative=0"] if settings.server_nodes else []
    return _srun(settings, settings.nodes, [*first, "--kill-on-bad-exit=1"])


def on_server_node(settings: Slurm) -> list[str]:
    """Return the words that start one task on the node of the vLLM server."""
    return _srun(settings, settings.server_nodes, [f"--relative={settings.nodes}"])


def _srun(settings: Slurm, nodes: int, options: list[str]) -> list[str]:
    words = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--mpi=none", "--wait=0"]
    if settings.gpus_per_node:
        words.append(f"--gpus-per-node={settings.gpus_per_node}")
    if settings.cpus_per_node is not None:
        words.append(f"--cpus-per-task={settings.cpus_per_node}")
    return [*words, *options, *settings.srun]


def python_of(settings: Slurm) -> list[str]:
    """Return the words that start Python for the ranks."""
    return [sys.executable] if settings.python is None else shlex.split(settings.python)


def rendezvous() -> tuple[str, str]:
    """Return host and port at which the ranks of this job meet; outside a job, their description.

    The job's own process runs on the first node. The port follows from the job's id, so that two jobs on one
    node do not meet.
    """
    if JOB_VARIABLE not in os.environ:  # SLURM's own are also set in an interactive allocation
        return "FIRST_NODE", "PORT_OF_JOB"
    first, number = _PORTS
    return os.environ["SLURMD_NODENAME"], str(first + int(os.environ["SLURM_JOB_ID"]) % number)
