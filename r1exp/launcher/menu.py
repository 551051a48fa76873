"""The launchers that `launcher.kind` can name. To add one, write its file and add a line here."""

from typing import Annotated

from r1exp.launcher.base import Launcher
from r1exp.registry import Registry

LAUNCHERS: Registry[Launcher] = Registry(
    "launcher",
    Launcher,
    {
        "auto": "r1exp.launcher.auto:Auto",
        "ddp": "r1exp.launcher.ddp:Ddp",
        "fsdp2": "r1exp.launcher.fsdp2:Fsdp2",
        "local": "r1exp.launcher.local:Local",
        "slurm": "r1exp.launcher.slurm:Slurm",
        "torchrun": "r1exp.launcher.torchrun_nodes:Torchrun",
        "zero1": "r1exp.launcher.zero:Zero",
        "zero2": "r1exp.launcher.zero:Zero",
        "zero3": "r1exp.launcher.zero:Zero",
    },
)
LauncherSettings = Annotated[Launcher, LAUNCHERS]
