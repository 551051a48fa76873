"""Where a step's processes run. conf/launcher/*.yaml."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from r1exp.settings import Settings


class Launcher(Settings):
    """What every launcher knows."""

    num_processes: PositiveInt  # ranks, over all machines
    device: Literal["auto", "cpu", "cuda"]  # auto: cuda where the driver is loaded
    threads_per_process: PositiveInt | None  # OMP_NUM_THREADS; null: cores divided by ranks on a CPU


class Local(Launcher):
    """One process."""

    kind: Literal["local"]
    num_processes: Literal[1]


class Ddp(Launcher):
    """One process a device, gradients averaged by DistributedDataParallel; gloo on a CPU, NCCL on GPUs."""

    kind: Literal["ddp"]
    port: PositiveInt | None  # rendezvous; null: a free one


class Zero(Launcher):
    """DeepSpeed: optimiser states (1), gradients too (2), weights too (3) are shared out over the ranks.

    Source: ZeRO (arXiv:1910.02054), section 5.
    """

    kind: Literal["zero1", "zero2", "zero3"]
    port: PositiveInt | None  # rendezvous; null: a free one
    offload: bool  # optimiser states, and with zero3 the weights, rest in the host's memory

    @property
    def stage(self) -> int:
        """The ZeRO stage."""
        return int(self.kind.removeprefix("zero"))


LauncherSettings = Annotated[Local | Ddp | Zero, Field(discriminator="kind")]
