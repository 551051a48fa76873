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

from r1exp.launcher.settings import Ddp, Launcher, LauncherSettings, Zero

Device = Literal["cpu", "cuda"]
_DISTRIBUTED = {
    "local": '"NO"',
    "ddp": "MULTI_GPU",
    "zero1": "DEEPSPEED",
    "zero2": "DEEPSPEED",
    "zero3": "DEEPSPEED",
}
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def device_of(settings: Launcher) -> Device:
    """Return where the ranks compute; `auto` is cuda where NVIDIA's driver is loaded."""
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
    if isinstance(settings, Zero):
        files["deepspeed.json"] = _fill(templates / "deepspeed.json", zero=json.dumps(_zero(settings)))
        deepspeed = (
            "deepspeed_config:\n"
            f"  deepspeed_config_file: {json.dumps(str(folder / 'deepspeed.json'))}\n"
            "  zero3_init_flag: false\n"
        )
        precision = ""  # deepspeed.json says it; accelerate 1.15 refuses both
    files["accelerate.yaml"] = _fill(
        templates / "accelerate.yaml",
        deepspeed=deepspeed,
        precision=precision,
        distributed_type=_DISTRIBUTED[settings.kind],
        num_processes=str(settings.num_processes),
        use_cpu="true" if device == "cpu" else "false",
    )
    arguments = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(folder / "accelerate.yaml"),
    ]
    if isinstance(settings, Ddp | Zero):
        arguments += ["--main_process_port", str(settings.port or free_port())]
    arguments += ["-m", "r1exp.worker", str(folder)]
    return Launch(tuple(arguments), _environment(settings, device), files)


def _fill(template: Path, **values: str) -> str:
    return Template(template.read_text(encoding="utf-8")).substitute(values)


def _zero(settings: Zero) -> dict[str, Any]:
    """Return DeepSpeed's `zero_optimization`."""
    zero: dict[str, Any] = {"stage": settings.stage}
    if settings.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    if settings.stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        if settings.offload:
            zero["offload_param"] = {"device": "cpu"}
    return zero


def _environment(settings: Launcher, device: Device) -> dict[str, str]:
    environment = {
        "HF_HUB_DISABLE_TELEMETRY": "1",  # TRL reports home when a trainer is built
        "TOKENIZERS_PARALLELISM": "false",
    }
    threads = settings.threads_per_process
    if threads is None and device == "cpu":
        threads = max(1, available_cores() // settings.num_processes)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def available_cores() -> int:
    """Return the cores this process may use, which a container may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_port() -> int:
    """Return a TCP port that is free on this machine now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
