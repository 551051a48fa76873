"""What the trainer is told about a vLLM rollout, and which pairs of settings cannot work. Torch-free."""

from typing import Any

from r1exp.algorithm.trainer_fields import fields_of
from r1exp.errors import Refused
from r1exp.launcher.command import Device
from r1exp.rollout.settings import ImportanceCorrection, VllmColocate, VllmServer
from r1exp.serving.step_server import refuse_server_that_cannot_work
from r1exp.stage.config import StepConfig

# What bends the sampler's distribution, and the value that does not.
_BENDS = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}


def refuse_vllm_where_it_cannot_work(config: StepConfig, device: Device) -> None:
    """Check a step whose rollout is vLLM.

    Raises:
        Refused: what vLLM or TRL 1.16 would do wrong, or not at all.
    """
    rollout = config.rollout
    if not isinstance(rollout, VllmColocate | VllmServer):
        return
    if config.online is not None and rollout.importance_correction is not None:
        _refuse_bent_sampling(config)
    if isinstance(rollout, VllmServer):
        refuse_server_that_cannot_work(config, device)
        return
    if device == "cpu" and rollout.sleep:
        raise Refused(
            "rollout.sleep=true frees the memory of a GPU, and this step runs on a CPU; leave it out"
        )
    if device == "cpu" and rollout.tensor_parallel_size > 1:
        raise Refused(
            f"rollout.tensor_parallel_size={rollout.tensor_parallel_size} spreads a model over GPUs, and this step "
            "runs on a CPU; set rollout.tensor_parallel_size=1"
        )
    num_ranks = config.launcher.num_processes
    if num_ranks % rollout.tensor_parallel_size:
        raise Refused(
            f"rollout.tensor_parallel_size={rollout.tensor_parallel_size} does not divide the {num_ranks} ranks, "
            "which share the copies of the model; change it or launcher.num_processes"
        )


def _refuse_bent_sampling(config: StepConfig) -> None:
    for name, straight in _BENDS.items():
        value = config.trainer.get(name, straight)
        if value != straight and not (name == "min_p" and value == 0.0):
            raise Refused(
                f"trainer.{name}={value} with rollout.importance_correction: vLLM tells the probabilities of the bent "
                "distribution and the trainer those of the whole one, so that every ratio is off (trl#6789); set "
                f"trainer.{name}={'null' if straight is None else straight}, or rollout.importance_correction=null"
            )


def vllm_arguments(config: StepConfig) -> dict[str, Any]:
    """Return the arguments of the trainer's dataclass that the rollout decides."""
    rollout = config.rollout
    if config.algorithm is None or not isinstance(rollout, VllmColocate | VllmServer):
        return {}
    arguments: dict[str, Any] = {"use_vllm": True}
    if isinstance(rollout, VllmServer):  # its address is known when it runs
        arguments |= {"vllm_mode": "server", "vllm_server_timeout": rollout.start_timeout}
    else:
        arguments |= {
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": rollout.gpu_memory_utilization,
            "vllm_max_model_length": rollout.max_model_length,
            "vllm_tensor_parallel_size": rollout.tensor_parallel_size,
            "vllm_enable_sleep_mode": rollout.sleep,
        }
    if "vllm_importance_sampling_mode" in fields_of(config.algorithm.trainer_class):  # TRL's RLOO has none
        arguments |= _correction_arguments(rollout.importance_correction)
    return arguments


def _correction_arguments(correction: ImportanceCorrection | None) -> dict[str, Any]:
    if correction is None:
        return {"vllm_importance_sampling_correction": False}
    return {
        "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": correction.mode,
        "vllm_importance_sampling_clip_max": correction.clip_max,
        "vllm_importance_sampling_clip_min": correction.clip_min,
    }
