"""The base class of launchers, and the command that starts the processes of a step.

`plan` shows the same `Launch` that a run starts.
"""

import os
import shlex
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import psutil
from pydantic import PositiveInt

from r1exp.assets import LAUNCHERS
from r1exp.paths import StepPaths
from r1exp.settings import Settings

Device = Literal["cpu", "cuda"]
LOOPBACK = "127.0.0.1"
_INTERFACES = (
    "GLOO_SOCKET_IFNAME",
    "NCCL_SOCKET_IFNAME",
)  # without them they listen at the address of the host's name
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")  # one folder for each device
_NO_SPINNING = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}  # libgomp; OpenMP of Intel and LLVM
# glibc returns large blocks to the system when they are freed, and gets them again, page by page, in the next pass.
_KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),  # bytes; the most that glibc accepts
    "MALLOC_TRIM_THRESHOLD_": str(1024**3),
}
_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # TRL reports to the hub when a trainer is built
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class Launch:
    """How the processes of a step are started."""

    arguments: tuple[str, ...]  # argv
    environment: dict[str, str]  # added to the parent's own
    files: dict[str, str]  # name below the step's folder -> text
    can_fork: bool = False  # whether a fork server may start the processes
    uses_deepspeed: bool = False

    @property
    def module(self) -> tuple[str, ...]:
        """What `python -m` runs, where a fork server may run it."""
        return self.arguments[2:]

    def text(self) -> str:
        """Return the command as it would be typed in a shell."""
        settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in self.environment.items())
        return f"{settings} {shlex.join(self.arguments)}"


class Launcher(Settings):
    """Where a step's processes run. Subclasses declare `num_processes`, a field or a property."""

    kind: str
    device: Literal["auto", "cpu", "cuda"]  # auto: cuda where NVIDIA's driver is loaded
    threads_per_process: PositiveInt | None  # OMP_NUM_THREADS; null: 1 on a CPU

    is_distributed: ClassVar[bool] = False  # the ranks meet at a port, even if there is only one rank
    # A scheduler started this process and ends it with SIGTERM, after which it starts it again.
    is_scheduled: ClassVar[bool] = False
    can_fork: ClassVar[bool] = False  # the ranks may be forked on this machine instead of started
    ranks_setting: ClassVar[str] = (
        "launcher.num_processes"  # the setting of the number of ranks, for messages
    )

    if TYPE_CHECKING:

        @property
        def num_processes(self) -> int:
            """Ranks over all nodes."""

        @property
        def patience(self) -> float:
            """Seconds that nodes wait for each other; read where there are followers."""

    @property
    def zero_stage(self) -> int:
        """The ZeRO stage; 0 without ZeRO."""
        return 0

    @property
    def is_fully_sharded(self) -> bool:
        """Whether FSDP2 partitions weights, gradients and optimizer states."""
        return False

    @property
    def partitions_weights(self) -> bool:
        """Whether a rank holds a part of each weight only: ZeRO-3 and FSDP2."""
        return self.zero_stage == 3 or self.is_fully_sharded

    @property
    def is_offloaded(self) -> bool:
        """Whether ZeRO keeps optimizer states, and with stage 3 the weights, in the host's memory."""
        return False

    @property
    def num_nodes(self) -> int:
        """Machines on which ranks run."""
        return 1

    @property
    def ranks_per_node(self) -> int:
        """Ranks on one machine."""
        return self.num_processes // self.num_nodes

    @property
    def num_followers(self) -> int:
        """Nodes on which a process of r1exp follows the first one; a job of SLURM has none."""
        return 0

    @property
    def index_of_this_node(self) -> int:
        """The index of this machine among those of the ranks; the first one owns the run, and the others follow it."""
        return 0

    @property
    def has_server_node(self) -> bool:
        """Whether a machine is reserved for a vLLM server."""
        return False

    @property
    def job(self) -> Any:
        """This launcher (a `r1exp.launcher.slurm.Slurm`) if a run is a SLURM job, else None."""
        return None

    def resolved_device(self) -> Device:
        """Return what the ranks compute on; `auto` is cuda where NVIDIA's driver is loaded."""
        if self.device == "auto":
            return "cuda" if _NVIDIA_DRIVER.exists() else "cpu"
        return self.device

    def devices(self) -> tuple[str, ...]:
        """Return the CUDA devices that this process, or a node of the job, may use, by number or id."""
        return devices_here()

    def for_step(self, num_kept: int, can_share: bool = True) -> "Launcher":
        """Return this launcher with every number stated, as a step runs with it.

        Args:
            num_kept: GPUs of this machine that the ranks do not get, because a vLLM server of the step has them.
            can_share: Whether two ranks can share the step: its rows divide, and no engine runs in each of them.

        Raises:
            Refused: this machine has too few GPUs.
        """
        del num_kept, can_share
        return self

    def server_command(self, python: str) -> list[str]:
        """Return the arguments before `-m` that start Python where the step's vLLM server runs."""
        return [python]

    @property
    def seconds_to_save(self) -> float | None:
        """Seconds between the signal of a scheduler and its end of the processes; None: no scheduler ends them."""
        return None

    @property
    def advice_to_save(self) -> str:
        """What to type for more of these seconds."""
        return ""

    def oddities(self) -> Iterator[str]:
        """Yield what deserves a second look in a plan."""
        yield from ()

    def refuse_unready(self) -> None:
        """Raise Refused if this launcher cannot start on this machine."""

    def launch(self, folder: Path) -> Launch:
        """Return how the step in `folder` is started."""
        device = self.resolved_device()
        config = StepPaths(folder).accelerate_config
        accelerate = ["-m", "r1exp.launcher.agent", "--config_file", str(config)]
        accelerate += ["--log_dir", os.devnull]  # else torchrun makes a folder in /tmp, and leaves it
        arguments = self.command(folder, accelerate, ["-m", "r1exp.worker", str(folder)])
        files = self.files(folder, device)
        # A process that has used CUDA cannot be forked, and importing libraries may use it. accelerate starts a single
        # rank without a rendezvous in another way.
        can_fork = self.can_fork and device == "cpu" and (self.has_rendezvous or not files)
        return Launch(
            tuple(arguments), self._environment(device), files, can_fork, uses_deepspeed=self.zero_stage > 0
        )

    def command(self, folder: Path, accelerate: list[str], worker: list[str]) -> list[str]:
        """Return the whole command, given accelerate's part and the worker's."""
        del folder
        return [sys.executable, *accelerate, *worker]

    def files(self, folder: Path, device: Device) -> dict[str, str]:
        """Return the files that accelerate reads: name below the step's folder -> text."""
        return {StepPaths(folder).accelerate_config.name: self.accelerate_file(device)}

    def accelerate_file(
        self,
        device: Device,
        section: str = "",
        distributed_type: str | None = None,
        precision: str = 'mixed_precision: "no"\n',
    ) -> str:
        """Return accelerate's configuration, with a section for DeepSpeed or FSDP."""
        return filled(
            "accelerate.yaml",
            section=section,
            precision=precision,
            distributed_type=distributed_type or self._distributed_type(),
            num_machines=str(self.num_nodes),
            num_processes=str(self.num_processes),
            use_cpu="true" if device == "cpu" else "false",
        )

    def _distributed_type(self) -> str:
        # MULTI_GPU also for several ranks on CPUs: accelerate 1.15 starts one process for MULTI_CPU.
        return '"NO"' if self.num_processes == 1 else "MULTI_GPU"

    def numerics(self, device: Device) -> dict[str, Any]:
        """Return what shifts the last digits of a result: ranks, ZeRO, device, and threads on a CPU."""
        sharded = {"launcher.is_fully_sharded": True} if self.is_fully_sharded else {}
        return sharded | {
            "launcher.num_processes": self.num_processes,
            "launcher.zero_stage": self.zero_stage,
            "launcher.offload": self.is_offloaded,
            "launcher.device": device,
            "launcher.threads_per_process": self._threads(device),
        }

    def _threads(self, device: Device) -> int | None:
        if self.threads_per_process is None and device == "cpu":
            return 1
        return self.threads_per_process

    def _environment(self, device: Device) -> dict[str, str]:
        threads = self._threads(device)
        own = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        if device == "cpu":  # threads that wait leave their core to other processes; the user's own are kept
            ours = _NO_SPINNING | _KEPT_MEMORY
            own |= {name: os.environ.get(name, value) for name, value in ours.items()}
        own |= self._own_devices(device)
        return _ENVIRONMENT | own | (self._interfaces() if self._is_on_one_machine else {})

    def _own_devices(self, device: Device) -> dict[str, str]:
        """Return the variable that hides the GPUs that the ranks on this machine leave.

        A single process that sees several would train on all of them with DataParallel, which transformers chooses and
        TRL's trainers fail in.
        """
        visible = self.devices()
        if device == "cpu" and self.is_fully_sharded:
            return {"CUDA_VISIBLE_DEVICES": ""}  # torch's fully_shard uses GPUs where it sees any
        if device == "cpu" or self.job is not None or len(visible) <= self.ranks_per_node:
            return {}
        return {"CUDA_VISIBLE_DEVICES": ",".join(visible[: self.ranks_per_node])}

    @property
    def has_rendezvous(self) -> bool:
        """Whether the ranks meet at an address: several, or one that DeepSpeed or FSDP2 trains."""
        return self.num_processes > 1 or self.zero_stage > 0 or self.is_fully_sharded

    @property
    def _is_on_one_machine(self) -> bool:
        """Whether several processes meet, and all of them, with the step's server, run on one machine."""
        return self.has_rendezvous and self.num_nodes == 1 and not self.has_server_node

    @staticmethod
    def _interfaces() -> dict[str, str]:
        """Return the variables that let gloo and NCCL listen on loopback only; the user's own are kept."""
        name = loopback_interface()
        return {} if name is None else {key: os.environ.get(key, name) for key in _INTERFACES}

    def rendezvous_here(self, port: int | None) -> list[str]:
        """Return accelerate's options for the port at which ranks on this machine meet, at its loopback address.

        Args:
            port: TCP port; None: a free one.
        """
        return ["--main_process_port", str(port or free_port(loopback()))]


def filled(template: str, **values: Any) -> str:
    """Return the text of a file of launchers/ with its placeholders replaced."""
    return Template((LAUNCHERS / template).read_text(encoding="utf-8")).substitute(values)


def available_cores() -> int:
    """Return the number of cores this process may use, which a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices_here() -> tuple[str, ...]:
    """Return the CUDA devices that this process may use, by number or id."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip())
    if not _NVIDIA_GPUS.is_dir():
        return ()
    return tuple(str(number) for number, _ in enumerate(_NVIDIA_GPUS.iterdir()))


def loopback() -> str:
    """Return the loopback address of this machine: 127.0.0.1, or ::1 where there is no IPv4."""
    try:
        free_port(LOOPBACK)
    except OSError:
        return "::1"
    return LOOPBACK


def loopback_interface() -> str | None:
    """Return the name of the interface with the loopback address, `lo` on Linux; None if there is none."""
    address = loopback()
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    return None


def free_port(host: str) -> int:
    """Return a TCP port that is free now at an address of this machine.

    Raises:
        OSError: the machine does not have the address.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
