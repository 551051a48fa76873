"""Does a step need a vLLM server, how is it started, and whose devices are whose? What `plan` shows and the run does."""

import dataclasses
from importlib.util import find_spec

from r1exp.errors import Refused
from r1exp.launcher.command import Device, Launch
from r1exp.launcher.settings import Slurm
from r1exp.launcher.slurm import on_server_node, python_of
from r1exp.rollout.settings import VllmColocate, VllmServer
from r1exp.serving.command import (
    ServerLaunch,
    Weights,
    served_name,
    server_launch,
    split_devices,
    visible_devices,
)
from r1exp.stage.config import StepConfig
from r1exp.stage.kinds import Evaluate, Sample


def server_of(config: StepConfig) -> VllmServer | None:
    """Return the settings of the server a step needs; None where it generates nothing, or in another way."""
    generates = config.online is not None or isinstance(config.stage, Evaluate | Sample)
    return config.rollout if generates and isinstance(config.rollout, VllmServer) else None


def refuse_server_that_cannot_work(config: StepConfig, device: Device) -> None:
    """Refuse to train with a server that new weights cannot reach, or that has no device.

    Raises:
        Refused: with what to use.
    """
    settings = server_of(config)
    if settings is None:
        return
    if device == "cpu":
        if config.online is not None:
            raise Refused(
                "rollout=vllm_server gets the policy's new weights over NCCL, which needs GPUs, and this step trains "
                "on a CPU; use rollout=vllm_colocate (with the CPU build of vLLM) or rollout=hf"
            )
        if settings.num_devices > 1:
            raise Refused(
                f"rollout.num_devices={settings.num_devices} are GPUs, and this step runs on a CPU; leave it at 1"
            )
    elif not has_own_node(config):
        if config.online is not None and _num_nodes(config) > 1:
            raise Refused(
                f"launcher.nodes={_num_nodes(config)} all train, and the server would take devices from one of them; "
                "give it a node of its own: launcher.server_nodes=1"
            )
        _devices(config, settings)


def refuse_without_vllm(config: StepConfig) -> None:
    """Refuse to start a server, or vLLM in the training process, on a machine without vLLM.

    Raises:
        Refused: with how to get it.
    """
    served = server_of(config) is not None and not has_own_node(config)
    colocated = isinstance(config.rollout, VllmColocate) and not isinstance(config.launcher, Slurm)
    if (served or colocated) and find_spec("vllm") is None:
        raise Refused(
            f"rollout={config.rollout.kind} needs vLLM, which is not installed here: `r1exp doctor` says how to get it; "
            "or use rollout=hf"
        )


def has_own_node(config: StepConfig) -> bool:
    """Whether a node of the job is for the server alone."""
    return isinstance(config.launcher, Slurm) and config.launcher.server_nodes > 0


def _num_nodes(config: StepConfig) -> int:
    return config.launcher.nodes if isinstance(config.launcher, Slurm) else 1


def supervisor_command(config: StepConfig, python: str) -> list[str]:
    """Return the words before `-m` that start a Python where the step's server belongs.

    Args:
        config: The step's settings.
        python: The interpreter on this machine.
    """
    if isinstance(config.launcher, Slurm) and config.launcher.server_nodes:
        return [*on_server_node(config.launcher), *python_of(config.launcher)]
    return [python]


def planned_server(config: StepConfig, *, model: str, key: str, device: Device) -> ServerLaunch | None:
    """Return how the server of a step is started; None where it needs none.

    Args:
        config: The step's settings.
        model: Where its model is loaded from.
        key: The step's key, by which the server is told from another run's.
        device: cpu or cuda.
    """
    settings = server_of(config)
    if settings is None:
        return None
    devices: tuple[str, ...] = ()  # on a node of its own: all that it sees there
    if device == "cuda" and not has_own_node(config):
        _, devices = _devices(config, settings)
    weights = Weights(
        model=model,
        revision=config.model.revision if model == config.model.path else None,
        dtype=config.model.compute_dtype,
        name=served_name(key),
    )
    return server_launch(
        settings,
        weights,
        device,
        trains=config.online is not None,
        threads=config.launcher.threads_per_process,
        devices=devices,
        asked_from_afar=has_own_node(config) or _num_nodes(config) > 1,
    )


def beside_server(launch: Launch, config: StepConfig, device: Device) -> Launch:
    """Return the start of the ranks with the devices that the server on this machine leaves them."""
    settings = server_of(config)
    if settings is None or device == "cpu" or has_own_node(config) or _num_nodes(config) > 1:
        return launch
    ranks, _ = _devices(config, settings)
    return dataclasses.replace(
        launch, environment={**launch.environment, "CUDA_VISIBLE_DEVICES": ",".join(ranks)}
    )


def _devices(config: StepConfig, settings: VllmServer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the devices of the ranks, and of the server."""
    launcher = config.launcher
    if isinstance(launcher, Slurm):  # planned where there may be none
        visible = tuple(map(str, range(launcher.gpus_per_node)))
    else:
        visible = visible_devices()
    return split_devices(visible, launcher.num_processes, settings.num_devices, config.online is not None)
