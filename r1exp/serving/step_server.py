"""Determines the command of a step's vLLM server, and which devices the server and the ranks get.

`plan` shows the same command that a run starts.
"""

import dataclasses
from dataclasses import dataclass

from r1exp.launcher.base import Device, Launch, Launcher
from r1exp.model.settings import ModelSettings
from r1exp.serving.command import ServerLaunch, Weights, served_name, server_launch
from r1exp.serving.devices import split_devices
from r1exp.serving.settings import VllmServer


@dataclass(frozen=True)
class ServedStep:
    """What the vLLM server of a step needs to know about the step."""

    settings: VllmServer
    launcher: Launcher
    model: ModelSettings
    device: Device
    trains: bool  # the step trains the policy, so that the server receives new weights over NCCL
    key: str  # of the step; part of the served name, so that the server of another run is recognized

    def launch(self, model_path: str) -> ServerLaunch:
        """Return how the server is started.

        Args:
            model_path: Where the model is loaded from.
        """
        devices: tuple[str, ...] = ()  # empty on a node of its own: all GPUs of that node
        if self.device == "cuda" and not self.launcher.has_server_node:
            _, devices = self._devices()
        weights = Weights(
            model=model_path,
            revision=self.model.revision if model_path == self.model.path else None,
            dtype=self.model.compute_dtype,
            name=served_name(self.key),
            trusts_code=self.model.trust_remote_code,
        )
        return server_launch(
            self.settings,
            weights,
            self.device,
            trains=self.trains,
            threads=self.launcher.threads_per_process,
            devices=devices,
            serves_other_nodes=self.launcher.has_server_node or self.launcher.num_nodes > 1,
        )

    def beside(self, launch: Launch) -> Launch:
        """Return `launch` restricted to the devices that a server on the same machine does not use."""
        launcher = self.launcher
        is_job = launcher.job is not None and launcher.num_nodes > 1
        if self.device == "cpu" or launcher.has_server_node or is_job:
            return launch
        ranks, _ = self._devices()
        return dataclasses.replace(
            launch, environment={**launch.environment, "CUDA_VISIBLE_DEVICES": ",".join(ranks)}
        )

    def _devices(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the devices of the ranks and those of the server."""
        launcher = self.launcher
        return split_devices(
            launcher.devices(), launcher.ranks_per_node, self.settings.num_devices, self.trains
        )
