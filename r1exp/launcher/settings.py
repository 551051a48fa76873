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


LauncherSettings = Annotated[Local | Ddp, Field(discriminator="kind")]
