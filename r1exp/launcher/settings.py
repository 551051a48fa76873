"""Where a step's processes run. conf/launcher/*.yaml."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from r1exp.settings import Name, Settings


def _one_line(text: str) -> str:
    if not text.strip() or len(text.splitlines()) != 1:
        raise ValueError("must be one line, and not blank: SLURM reads line by line")
    return text


OneLine = Annotated[str, AfterValidator(_one_line)]


class Launcher(Settings):
    """What every launcher knows."""

    device: Literal["auto", "cpu", "cuda"]  # auto: cuda where the driver is loaded
    threads_per_process: PositiveInt | None  # OMP_NUM_THREADS; null: cores divided by ranks on a CPU

    @property
    def stage(self) -> int:
        """The ZeRO stage; 0 without ZeRO."""
        return 0


class Local(Launcher):
    """One process."""

    kind: Literal["local"]
    num_processes: Literal[1]


class Ddp(Launcher):
    """One process a device, gradients averaged by DistributedDataParallel; gloo on a CPU, NCCL on GPUs."""

    kind: Literal["ddp"]
    num_processes: PositiveInt  # ranks
    port: PositiveInt | None  # rendezvous; null: a free one


class Zero(Launcher):
    """DeepSpeed: optimizer states (1), gradients too (2), weights too (3) are shared out over the ranks.

    Source: ZeRO (arXiv:1910.02054), section 5.
    """

    kind: Literal["zero1", "zero2", "zero3"]
    num_processes: PositiveInt  # ranks
    port: PositiveInt | None  # rendezvous; null: a free one
    offload: bool  # optimizer states, and with zero3 the weights, rest in the host's memory

    @property
    def stage(self) -> int:
        """The ZeRO stage."""
        return int(self.kind.removeprefix("zero"))


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
    def stage(self) -> int:
        """The ZeRO stage; 0 without ZeRO."""
        return 0 if self.strategy == "ddp" else int(self.strategy.removeprefix("zero"))

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


LauncherSettings = Annotated[Local | Ddp | Zero | Slurm, Field(discriminator="kind")]
