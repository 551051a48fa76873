"""Several processes on this machine, with plain data parallelism."""

from typing import Literal

from r1exp.launcher.this_machine import OnThisMachine


class Ddp(OnThisMachine):
    """One process per device; DistributedDataParallel averages gradients over gloo on CPUs, NCCL on GPUs."""

    kind: Literal["ddp"]
