"""Does a step need a vLLM server, how is it started, and whose devices are whose? What `plan` shows and the run does."""

import dataclasses

from r1exp.errors import Refused
from r1exp.launcher.command import Device, Launch
from r1exp.launcher.server import ServerLaunch, server_launch, split_devices, visible_devices
from r1exp.rollout.settings import VllmServer
from r1exp.step.config import StepConfig
from r1exp.step.settings import Evaluate, Sample


def server_of(config: StepConfig) -> VllmServer | None:
    """Return the settings of the server a step needs; None where it generates nothing, or in another way."""
    generates = config.online is not None or isinstance(config.stage, Evaluate | Sample)
    return config.rollout if generates and isinstance(config.rollout, VllmServer) else None


def refuse_server_that_cannot_train(config: StepConfig, device: Device) -> None:
    """Refuse to train with a server that new weights cannot reach.

    Raises:
        Refused: there is no GPU.
    """
    if server_of(config) is not None and config.online is not None and device == "cpu":
        raise Refused(
            "rollout=vllm_server gets the policy's new weights over NCCL, which needs GPUs, and this step trains on a "
            "CPU; use rollout=vllm_colocate (the CPU build of vLLM does) or rollout=hf"
        )


def planned_server(
    config: StepConfig, *, model: str, key: str, device: Device, is_elsewhere: bool = False
) -> ServerLaunch | None:
    """Return how the server of a step is started; None where it needs none.

    Args:
        config: The step's settings.
        model: Where its model is loaded from.
        key: The step's key, by which the server is told from another run's.
        device: cpu or cuda.
        is_elsewhere: It has a node of its own, and all devices of that node it can see.
    """
    settings = server_of(config)
    if settings is None:
        return None
    trains = config.online is not None
    devices: tuple[str, ...] = ()
    if device == "cuda" and not is_elsewhere:
        _, devices = _devices(config, settings)
    return server_launch(
        settings,
        model=model,
        revision=config.model.revision if model == config.model.path else None,
        dtype=config.model.compute_dtype,
        name=served_name(key),
        device=device,
        trains=trains,
        devices=devices,
        is_elsewhere=is_elsewhere,
    )


def beside_server(launch: Launch, config: StepConfig, device: Device) -> Launch:
    """Return the start of the ranks with the devices that the server on this machine leaves them."""
    settings = server_of(config)
    if settings is None or device == "cpu":
        return launch
    ranks, _ = _devices(config, settings)
    return dataclasses.replace(
        launch, environment={**launch.environment, "CUDA_VISIBLE_DEVICES": ",".join(ranks)}
    )


def served_name(key: str) -> str:
    """Return what the server of a step calls its model."""
    return f"r1exp-{key}"


def _devices(config: StepConfig, settings: VllmServer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the devices of the ranks, and of the server."""
    return split_devices(
        visible_devices(), config.launcher.num_processes, settings.num_devices, config.online is not None
    )
