"""Runs each run as one SLURM job, and the members of a sweep as an array: its settings, the script that sbatch reads, and the srun commands.

The job's own process, `python -m r1exp.runner.slurm_entry RUN`, runs on the first node of the ranks and starts every
step with one task of srun per node. The node of a vLLM server comes after those of the ranks.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from r1exp.launcher.base import Device, Launcher, filled
from r1exp.launcher.fsdp2 import strategy_files
from r1exp.launcher.slurm_client import JobId
from r1exp.launcher.zero import stage_of
from r1exp.paths import RunPaths, SweepPaths
from r1exp.settings import Name

JOB_VARIABLE = "R1EXP_JOB"  # set only in a job that r1exp submitted
_PORTS = 20_000, 10_000  # the first and the number of rendezvous ports, below the ephemeral ports of Linux
_NAME_LENGTH = 60  # characters of a job's name


def _one_line(text: str) -> str:
    if not text.strip() or len(text.splitlines()) != 1:
        raise ValueError("must be one line, and not blank: SLURM reads line by line")
    return text


OneLine = Annotated[str, AfterValidator(_one_line)]
Strategy = Literal["ddp", "zero1", "zero2", "zero3", "fsdp2"]

# Options of sbatch that a key of launcher=slurm or r1exp itself sets -> what to type instead.
_RESERVED = {
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
    "--output": "nothing: the log is in the run directory",
    "-o": "nothing: the log is in the run directory",
    "--error": "nothing: the log is in the run directory",
    "-e": "nothing: the log is in the run directory",
    "--array": "-m: the members of a sweep are an array; sweep.parallel=N runs N at once",
    "-a": "-m: the members of a sweep are an array; sweep.parallel=N runs N at once",
    "--ntasks": "launcher.nodes and launcher.processes_per_node",
    "-n": "launcher.nodes and launcher.processes_per_node",
    "--chdir": "the command in that folder",
    "-D": "the command in that folder",
}
_TIME = re.compile(r"(\d+-)?\d+(:\d{1,2}){0,2}")


class Slurm(Launcher):
    """One job per run; on each node one task of srun, which starts the ranks of that node."""

    kind: Literal["slurm"]
    nodes: PositiveInt  # number of nodes for the ranks
    processes_per_node: PositiveInt | None  # ranks; null: one per GPU, or one without GPUs
    gpus_per_node: NonNegativeInt  # GPUs
    cpus_per_node: PositiveInt | None  # CPUs; null: the default of the cluster
    strategy: Strategy  # how the ranks of the job train together
    offload: bool  # with ZeRO: partitioned states are kept in the host's memory
    server_nodes: Annotated[int, Field(ge=0, le=1)]  # number of nodes for the vLLM server alone
    time: PositiveInt | Name  # limit: minutes, H:M:S or D-H:M:S
    partition: OneLine | None  # partition of the cluster; null: its default
    account: OneLine | None  # account that is charged; null: your default
    qos: OneLine | None  # quality of service; null: the default
    constraint: OneLine | None  # features that the nodes must have; null: any
    extra: tuple[OneLine, ...]  # options of sbatch
    srun: tuple[OneLine, ...]  # options of srun
    setup: tuple[Name, ...]  # shell lines
    python: OneLine | None  # command that starts Python for the ranks; null: this Python
    wait: bool  # whether the command waits for the end of the job
    requeue: bool  # true: a preempted job is queued again and continues
    signal_seconds: PositiveInt  # seconds before the time limit at which SLURM signals the job

    ranks_setting = "launcher.processes_per_node"

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
        return stage_of(self.strategy)

    @property
    def is_fully_sharded(self) -> bool:
        """Whether FSDP2 holds the weights."""
        return self.strategy == "fsdp2"

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
        """This launcher, because a run is a job."""
        return self

    @property
    def seconds_to_save(self) -> float:
        """Seconds between SLURM's signal and the time limit."""
        return float(self.signal_seconds)

    @property
    def advice_to_save(self) -> str:
        """What to type for more of these seconds."""
        return "type a larger launcher.signal_seconds"

    def oddities(self) -> Iterator[str]:
        """Yield that ranks may have to share one core."""
        if self.cpus_per_node is None and (self.ranks_per_node > 1 or self.gpus_per_node):
            yield (
                f"launcher.cpus_per_node=null: many clusters then give a node's {self.ranks_per_node} rank(s), with all that "
                "they start, a single core; type launcher.cpus_per_node=N (`sinfo -o '%n %c'` lists the cores of each node)"
            )

    def resolved_device(self) -> Device:
        """Return what the ranks compute on; `auto` follows `gpus_per_node`, as the login node may have no GPU."""
        if self.device == "auto":
            return "cuda" if self.gpus_per_node else "cpu"
        return self.device

    def devices(self) -> tuple[str, ...]:
        """Return the GPUs of a node."""
        return tuple(map(str, range(self.gpus_per_node)))

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
        found = strategy_files(self, folder, device)
        return super().files(folder, device) if found is None else found

    def _rendezvous(self) -> list[str]:
        """Return accelerate's options for the address at which the ranks meet; a single rank needs none."""
        if not self.has_rendezvous:
            return []
        host, port = rendezvous()
        return ["--main_process_ip", host, "--main_process_port", port]

    @field_validator("time")
    @classmethod
    def _is_a_limit(cls, value: int | str) -> int | str:
        if not _TIME.fullmatch(str(value)):
            raise ValueError(
                f"{value!r} is not a time limit of SLURM: minutes (90), H:M:S (2:30:00) or D-H:M:S (3-0)"
            )
        return value

    @field_validator("extra")
    @classmethod
    def _refuse_reserved_options(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            option = re.split(r"[= ]", value, maxsplit=1)[0]
            if not option.startswith("-"):
                raise ValueError(
                    f"{value!r} is not an option of sbatch; write it as on its command line: --mem=0"
                )
            if option in _RESERVED:
                raise ValueError(f"{value!r} is set by another key; use {_RESERVED[option]}")
        return values

    @model_validator(mode="after")
    def _offload_needs_zero(self) -> Self:
        if self.offload and not self.zero_stage:
            raise ValueError(
                f"offload=true has no effect with strategy={self.strategy}: r1exp offloads with ZeRO only; use "
                "launcher.strategy=zero2 or zero3"
            )
        return self


def job_text(settings: Slurm, name: str, working_directory: Path, run: Path) -> str:
    """Return the script of a run's job.

    Args:
        settings: The launcher.
        name: Name of the run.
        working_directory: Folder in which the command was typed; relative paths start there.
        run: The run directory.
    """
    return filled(
        "job.sbatch",
        mark=JOB_VARIABLE,
        options=_lines(_options(settings, name, RunPaths(run).job_log.name)),
        working_directory=shlex.quote(str(working_directory)),
        setup="".join(f"{line}\n" for line in settings.setup),
        python=shlex.quote(sys.executable),
        run=shlex.quote(str(run)),
    )


@dataclass(frozen=True)
class Elements:
    """The members of a sweep that one array runs."""

    sweep: Path  # folder of the sweep
    numbers: tuple[int, ...]  # of the members
    first: int  # the member with index 0
    at_once: int | None  # members that may run at once; None: as many as the cluster starts
    after: JobId | None  # the array that has to end first; None: none

    def options(self) -> list[str]:
        """Return the options of sbatch for the array."""
        limit = "" if self.at_once is None else f"%{self.at_once}"
        indices = ",".join(_ranges([number - self.first for number in self.numbers]))
        after = [] if self.after is None else [f"--dependency=afterany:{self.after}"]
        return [f"--array={indices}{limit}", *after]


def _ranges(numbers: Sequence[int]) -> Iterator[str]:
    """Yield the numbers as sbatch reads them: 0-3,5."""
    for _, group in groupby(enumerate(sorted(numbers)), lambda item: item[1] - item[0]):
        found = [number for _, number in group]
        yield str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"


def array_text(settings: Slurm, name: str, working_directory: Path, elements: Elements) -> str:
    """Return the script of an array whose elements are members of a sweep.

    Args:
        settings: The launcher of all of them.
        name: Name of the runs.
        working_directory: Folder in which the command was typed; relative paths start there.
        elements: The members.
    """
    return filled(
        "array.sbatch",
        mark=JOB_VARIABLE,
        options=_lines(
            [*_options(settings, name, SweepPaths(elements.sweep).array_log.name), *elements.options()]
        ),
        working_directory=shlex.quote(str(working_directory)),
        setup="".join(f"{line}\n" for line in settings.setup),
        python=shlex.quote(sys.executable),
        sweep=shlex.quote(str(elements.sweep)),
        first=str(elements.first),
        log=RunPaths(elements.sweep).job_log.name,
    )


def _lines(options: Sequence[str]) -> str:
    return "\n".join(f"#SBATCH {option}" for option in options)


def _options(settings: Slurm, name: str, output: str) -> list[str]:
    """Return the options of sbatch, one per #SBATCH line."""
    options = [
        f"--job-name={_quoted(' '.join(name.split())[:_NAME_LENGTH])}",
        f"--nodes={settings.nodes + settings.server_nodes}",
        "--ntasks-per-node=1",
        f"--time={settings.time}",
        f"--signal=B:USR1@{settings.signal_seconds}",
        "--requeue" if settings.requeue else "--no-requeue",
        f"--output={output}",
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
    """Return a value quoted for a #SBATCH line; Slurm 22.05 reads quotes like a shell, and backslashes inside them too."""
    return shlex.quote(value.replace("\\", "\\\\"))


def on_ranks_nodes(settings: Slurm) -> list[str]:
    """Return the srun command that starts one task on each node of the ranks."""
    first = ["--relative=0"] if settings.server_nodes else []
    return _srun(settings, settings.nodes, [*first, "--kill-on-bad-exit=1"])


def on_server_node(settings: Slurm) -> list[str]:
    """Return the srun command that starts one task on the node of the vLLM server."""
    return _srun(settings, settings.server_nodes, [f"--relative={settings.nodes}"])


def _srun(settings: Slurm, nodes: int, options: list[str]) -> list[str]:
    command = [
        "srun",
        f"--nodes={nodes}",
        f"--ntasks={nodes}",
        "--ntasks-per-node=1",
        "--mpi=none",
        "--cpu-bind=none",  # else the ranks of a task share the core that its first process is bound to
        "--wait=0",
    ]
    if settings.gpus_per_node:
        command.append(f"--gpus-per-node={settings.gpus_per_node}")
    if settings.cpus_per_node is not None:
        command.append(f"--cpus-per-task={settings.cpus_per_node}")
    return [*command, *options, *settings.srun]


def python_of(settings: Slurm) -> list[str]:
    """Return the command that starts Python for the ranks."""
    return [sys.executable] if settings.python is None else shlex.split(settings.python)


def rendezvous() -> tuple[str, str]:
    """Return host and port at which the ranks of this job meet; outside a job, placeholders.

    The job's own process runs on the first node. The port is computed from the job's id, so that two jobs on one
    node use different ports.
    """
    if JOB_VARIABLE not in os.environ:  # SLURM's own variables are also set in an interactive allocation
        return "FIRST_NODE", "PORT_OF_JOB"
    first, number = _PORTS
    return os.environ["SLURMD_NODENAME"], str(first + int(os.environ["SLURM_JOB_ID"]) % number)
