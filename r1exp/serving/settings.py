"""Settings of a vLLM server that r1exp starts for a step (conf/rollout/vllm_server.yaml). Torch-free."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from r1exp.addresses import is_private
from r1exp.errors import Refused
from r1exp.launcher.base import Device, Launcher
from r1exp.rollout.settings import VllmEngine, refuse_without_vllm
from r1exp.serving.devices import split_devices
from r1exp.settings import Name


class VllmServer(VllmEngine):
    """A vLLM server that the launcher starts, watches and ends."""

    kind: Literal["vllm_server"]
    num_devices: PositiveInt  # GPUs for the server alone; one copy of the model per tensor_parallel_size GPUs
    host: Name  # loopback or private: any client that connects can use the developer endpoints
    port: PositiveInt | None  # null: a free one
    start_timeout: PositiveFloat  # seconds until it must answer
    restarts: NonNegativeInt  # restarts after it exited; always 0 for a server that a policy trains with

    generator = "r1exp.serving.generator:generator"
    in_training = "r1exp.serving.generator:in_training"
    outside_key = VllmEngine.outside_key | {"num_devices", "host", "port", "start_timeout", "restarts"}

    @model_validator(mode="after")
    def _stays_private(self) -> Self:
        if self.host != "localhost" and not is_private(self.host):
            raise ValueError(
                f"host={self.host}: any client that can connect to that address could control the server; "
                "use host=127.0.0.1, or a private address of this machine (10.x, 192.168.x, 172.16.x)"
            )
        return self

    @model_validator(mode="after")
    def _devices_hold_whole_copies(self) -> Self:
        if self.num_devices % self.tensor_parallel_size:
            raise ValueError(
                f"num_devices={self.num_devices} is no multiple of tensor_parallel_size={self.tensor_parallel_size}, "
                "the devices of one copy of the model; make it one"
            )
        return self

    @property
    def num_copies(self) -> int:
        """Copies of the model, which serve requests in parallel."""
        return self.num_devices // self.tensor_parallel_size

    @property
    def server(self) -> "VllmServer":
        """This rollout, because a server is started for it."""
        return self

    def check(self, launcher: Launcher, device: Device, trainer: Mapping[str, Any] | None) -> None:
        """Raise Refused if new weights cannot be sent to the server, or if there is no device for it."""
        super().check(launcher, device, trainer)
        if device == "cpu":
            if trainer is not None:
                raise Refused(
                    "rollout=vllm_server receives the policy's new weights over NCCL, which needs GPUs, and this step "
                    "trains on a CPU; use rollout=vllm_colocate (with the CPU build of vLLM) or rollout=hf"
                )
            if self.num_devices > 1:
                raise Refused(
                    f"rollout.num_devices={self.num_devices} are GPUs, and this step runs on a CPU; leave it at 1"
                )
        elif not launcher.has_server_node:
            if trainer is not None and launcher.job is not None and launcher.num_nodes > 1:
                raise Refused(
                    f"launcher.nodes={launcher.num_nodes} all train, and the server would take devices from one of "
                    "them; give it a node of its own: launcher.server_nodes=1"
                )
            split_devices(launcher.devices(), launcher.ranks_per_node, self.num_devices, trainer is not None)

    def refuse_unready(self, launcher: Launcher) -> None:
        """Raise Refused where the server would start on this machine, and vLLM is not installed."""
        if not launcher.has_server_node:
            refuse_without_vllm(self.kind)

    def mode_arguments(self) -> dict[str, Any]:
        """Return TRL's arguments for a server; its address is added when the step runs."""
        return {"vllm_mode": "server", "vllm_server_timeout": self.start_timeout}
