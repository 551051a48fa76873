"""The command that starts a step's processes, with the files and the environment it needs.

One source of truth: what `plan` shows is what is run.
"""

import json
import os
import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Literal

from r1exp.launcher.settings import Ddp, Launcher, LauncherSettings, Slurm, Zero
from r1exp.launcher.slurm import on_ranks_nodes, python_of, rendezvous

Device = Literal["cpu", "cuda"]
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def device_of(settings: Launcher) -> Device:
    """Return where the ranks compute; `auto` is cuda where NVIDIA's driver is loaded, or GPUs are asked for."""
    if settings.device == "auto" and isinstance(settings, Slurm):  # the node that submits may have none
        return "cuda" if settings.gpus_per_node else "cpu"
    if settings.device == "auto":
        return "cuda" if _NVIDIA_DRIVER.exists() else "cpu"
    return settings.device


@dataclass(frozen=True)
class Launch:
    """One start of one step."""

    arguments: tuple[str, ...]  # argv
    environment: dict[str, str]  # added to the parent's own
    files: dict[str, str]  # name below the step's folder -> text

    def text(self) -> str:
        """Return the command as a person would type it."""
        settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in self.environment.items())
        return f"{settings} {shlex.join(self.arguments)}"


def launch_of(settings: LauncherSettings, folder: Path, templates: Path) -> Launch:
    """Return how the step in `folder` is started.

    Args:
        settings: The launcher.
        folder: The step's folder.
        templates: launchers/, with accelerate.yaml.
    """
    device = device_of(settings)
    files = {}
    deepspeed, precision = "", 'mixed_precision: "no"\n'
    if isinstance(settings, Zero | Slurm) and settings.stage:
        files["deepspeed.json"] = _fill(templates / "deepspeed.json", zero=json.dumps(_zero(settings)))
        deepspeed = (
            "deepspeed_config:\n"
            f"  deepspeed_config_file: {json.dumps(str(folder / 'deepspeed.json'))}\n"
            "  zero3_init_flag: false\n"
            "  deepspeed_multinode_launcher: standard\n"  # accelerate's default is pdsh, which needs a host file
        )
        precision = ""  # deepspeed.json says it; accelerate 1.15 refuses both
    files["accelerate.yaml"] = _fill(
        templates / "accelerate.yaml",
        deepspeed=deepspeed,
        precision=precision,
        distributed_type=_distributed_type(settings),
        num_machines=str(settings.nodes if isinstance(settings, Slurm) else 1),
        num_processes=str(settings.num_processes),
        use_cpu="true" if device == "cpu" else "false",
    )
    worker = ["-m", "r1exp.worker", str(folder)]
    arguments = ["-m", "accelerate.commands.launch", "--config_file", str(folder / "accelerate.yaml")]
    if isinstance(settings, Slurm):
        python = python_of(settings)
        arguments = [
            *on_ranks_nodes(settings),
            *(*python, "-m", "r1exp.runner.slurm_node", str(folder)),
            *(*python, *arguments, *_meeting(settings), *worker),
        ]
    elif isinstance(settings, Ddp | Zero):
        port = str(settings.port or free_port())
        arguments = [sys.executable, *arguments, "--main_process_port", port, *worker]
    else:
        arguments = [sys.executable, *arguments, *worker]
    return Launch(tuple(arguments), _environment(settings, device), files)


def _distributed_type(settings: LauncherSettings) -> str:
    """Return accelerate's word; with MULTI_GPU also for several ranks on CPUs."""
    if settings.stage:
        return "DEEPSPEED"
    return '"NO"' if settings.num_processes == 1 else "MULTI_GPU"


def _meeting(settings: Slurm) -> list[str]:
    """Return where the ranks of a job meet; one rank meets nobody."""
    if settings.num_processes == 1 and not settings.stage:
        return []
    host, port = rendezvous()
    return ["--main_process_ip", host, "--main_process_port", port]


def _fill(template: Path, **values: str) -> str:
    return Template(template.read_text(encoding="utf-8")).substitute(values)


def _zero(settings: Zero | Slurm) -> dict[str, Any]:
    """Return DeepSpeed's `zero_optimization`."""
    zero: dict[str, Any] = {"stage": settings.stage}
    if settings.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    if settings.stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        if settings.offload:
            zero["offload_param"] = {"device": "cpu"}
    return zero


def _environment(settings: LauncherSettings, device: Device) -> dict[str, str]:
    environment = {
        "HF_HUB_DISABLE_TELEMETRY": "1",  # TRL reports home when a trainer is built
        "TOKENIZERS_PARALLELISM": "false",
    }
    threads = settings.threads_per_process
    if threads is None and device == "cpu":
        threads = _share_of_cores(settings)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def _share_of_cores(settings: LauncherSettings) -> int | None:
    if not isinstance(settings, Slurm):
        return max(1, available_cores() // settings.num_processes)
    if settings.cpus_per_node is None:  # known on the node only
        return None
    return max(1, settings.cpus_per_node // settings.ranks_per_node)


def available_cores() -> int:
    """Return the cores this process may use, which a container may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_port() -> int:
    """Return a TCP port that is free on this machine now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
