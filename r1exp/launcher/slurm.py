"""One SLURM job for each run: its settings, the script that sbatch reads, and the prefix of what runs on other nodes.

The job's own process, `python -m r1exp.runner.slurm_entry RUN`, runs on the first node of the ranks and starts every
step with one task of srun on each node. A vLLM server's node comes after those of the ranks.
"""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from r1exp.launcher.base import Device, Launcher, filled
from r1exp.launcher.zero import deepspeed_files
from r1exp.settings import Name

JOB_VARIABLE = "R1EXP_JOB"  # set in a job of ours, and nowhere else
_PORTS = 20_000, 10_000  # the first and the number of rendezvous ports, below what Linux hands out by itself
_NAME_LENGTH = 60  # letters of a job's name


def _one_line(text: str) -> str:
    if not text.strip() or len(text.splitlines()) != 1:
        raise ValueError("must be one line, and not blank: SLURM reads line by line")
    return text


OneLine = Annotated[str, AfterValidator(_one_line)]


Strategy = Literal["ddp", "zero1", "zero2", "zero3"]

# Options of sbatch that follow from a key of launcher=slurm, or that r1exp needs for itself -> what to type instead.
_OWNED = {
    "--nodes": "launcher.nodes",
    "-N": "launcher.nodes",
    "--ntasks-per-node": "launcher.processes_per_node",
    "--gpus-per-node": "launcher.gpus_per_node",
    "--cpus-per-task": "launcher.cpus_per_node",
    "-c": "launcher.cpus_per_node",
    "--time": "launcher.time",
    "-t": "launcher.time",
    "--partition": "launcher.partition",
    "-p": "launcher.partition",
    "--account": "launcher.account",
    "-A": "launcher.account",
    "--qos": "launcher.qos",
    "-q": "launcher.qos",
    "--constraint": "launcher.constraint",
    "-C": "launcher.constraint",
    "--requeue": "launcher.requeue",
    "--no-requeue": "launcher.requeue",
    "--signal": "launcher.signal_seconds",
    "--job-name": "name",
    "-J": "name",
    "--wait": "launcher.wait",
    "-W": "launcher.wait",
    "--output": "nothing: the log lies in the run directory",
    "-o": "nothing: the log lies in the run directory",
    "--error": "nothing: the log lies in the run directory",
    "-e": "nothing: the log lies in the run directory",
    "--array": "-m: every member of a sweep is a job",
    "-a": "-m: every member of a sweep is a job",
    "--ntasks": "launcher.nodes and launcher.processes_per_node",
    "-n": "launcher.nodes and launcher.processes_per_node",
    "--chdir": "the command in that folder",
    "-D": "the command in that folder",
}
_TIME = re.compile(r"(\d+-)?\d+(:\d{1,2}){0,2}")


class Slurm(Launcher):
    """One job a run; on each node one task of srun, which starts that node's ranks."""

    kind: Literal["slurm"]
    nodes: PositiveInt  # for the ranks
    processes_per_node: PositiveInt | None  # ranks; null: one a GPU, or one without GPUs
    gpus_per_node: NonNegativeInt  # GPUs
    cpus_per_node: PositiveInt | None  # CPUs; null: what the cluster gives
    strategy: Strategy
    offload: bool  # with ZeRO: what is shared out rests in the host's memory
    server_nodes: Annotated[int, Field(ge=0, le=1)]  # nodes for the vLLM server alone
    time: PositiveInt | Name  # limit: minutes, H:M:S or D-H:M:S
    partition: OneLine | None
    account: OneLine | None
    qos: OneLine | None
    constraint: OneLine | None
    extra: tuple[OneLine, ...]  # options of sbatch
    srun: tuple[OneLine, ...]  # options of srun
    setup: tuple[Name, ...]  # shell lines
    python: OneLine | None  # words that start Python for the ranks
    wait: bool  # for the job's end
    requeue: bool
    signal_seconds: PositiveInt  # before the limit

    @property
    def ranks_per_node(self) -> int:
        """Ranks on one node."""
        return self.processes_per_node or self.gpus_per_node or 1

    @property
    def num_processes(self) -> int:
        """Ranks over all nodes."""
        return self.nodes * self.ranks_per_node

    @property
    def num_nodes(self) -> int:
        """Nodes on which ranks run."""
        return self.nodes

    @property
    def zero_stage(self) -> int:
        """The ZeRO stage; 0 without ZeRO."""
        return 0 if self.strategy == "ddp" else int(self.strategy.removeprefix("zero"))

    @property
    def is_offloaded(self) -> bool:
        """Whether ZeRO keeps states in the host's memory."""
        return self.offload

    @property
    def has_server_node(self) -> bool:
        """Whether a node is reserved for a vLLM server."""
        return self.server_nodes > 0

    @property
    def job(self) -> "Slurm":
        """This launcher: a run is one job."""
        return self

    def resolved_device(self) -> Device:
        """Return what the ranks compute on; the node that submits may have no GPU, so `auto` asks the settings."""
        if self.device == "auto":
            return "cuda" if self.gpus_per_node else "cpu"
        return self.device

    def devices(self) -> tuple[str, ...]:
        """Return the GPUs of a node."""
        return tuple(map(str, range(self.gpus_per_node)))

    def cores_per_rank(self) -> int | None:
        """Return the CPU cores of one rank; None where the cluster decides."""
        return None if self.cpus_per_node is None else max(1, self.cpus_per_node // self.ranks_per_node)

    def server_command(self, python: str) -> list[str]:
        """Return the arguments before `-m` that start Python on the server's node, if there is one."""
        return [*on_server_node(self), *python_of(self)] if self.has_server_node else [python]

    def command(self, folder: Path, accelerate: list[str], worker: list[str]) -> list[str]:
        """Return the command that starts one task on each node, which starts that node's ranks."""
        python = python_of(self)
        return [
            *on_ranks_nodes(self),
            *(*python, "-m", "r1exp.runner.slurm_node", str(folder)),
            *(*python, *accelerate, *self._rendezvous(), *worker),
        ]

    def files(self, folder: Path, device: Device) -> dict[str, str]:
        """Return accelerate's configuration and, with ZeRO, DeepSpeed's."""
        return deepspeed_files(self, folder, device) if self.zero_stage else super().files(folder, device)

    def _rendezvous(self) -> list[str]:
        """Return the address at which the ranks meet; a single rank needs none."""
        if self.num_processes == 1 and not self.zero_stage:
            return []
        host, port = rendezvous()
        return ["--main_process_ip", host, "--main_process_port", port]

    @field_validator("time")
    @classmethod
    def _is_a_limit(cls, value: int | str) -> int | str:
        if not _TIME.fullmatch(str(value)):
            raise ValueError(
                f"{value!r} is no limit that SLURM knows: minutes (90), H:M:S (2:30:00) or D-H:M:S (3-0)"
            )
        return value

    @field_validator("extra")
    @classmethod
    def _options_are_nobody_elses(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            option = re.split(r"[= ]", value, maxsplit=1)[0]
            if not option.startswith("-"):
                raise ValueError(
                    f"{value!r} is no option of sbatch; write it as on its command line: --mem=0"
                )
            if option in _OWNED:
                raise ValueError(f"{value!r} is decided elsewhere; use {_OWNED[option]}")
        return values

    @model_validator(mode="after")
    def _offload_needs_zero(self) -> Self:
        if self.offload and self.strategy == "ddp":
            raise ValueError(
                "offload=true shares nothing out under strategy=ddp; use launcher.strategy=zero2 or zero3"
            )
        return self


def job_text(settings: Slurm, name: str, working_directory: Path, run: Path) -> str:
    """Return the script of a run's job.

    Args:
        settings: The launcher.
        name: Of the run.
        working_directory: The folder the command was typed in; relative paths count from there.
        run: The run directory.
    """
    return filled(
        "job.sbatch",
        mark=JOB_VARIABLE,
        options="\n".join(f"#SBATCH {option}" for option in _options(settings, name)),
        working_directory=shlex.quote(str(working_directory)),
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
