"""What a planned step needs on each device.

Lengths are estimated from characters, since a tokenizer may not be on this machine: three to a token,
which is on the long side for English.
"""

from dataclasses import replace

from r1exp.algorithm.settings import Ppo
from r1exp.dataset.base import Split
from r1exp.launcher.command import Device
from r1exp.model.memory import Load, memory_per_device, shape_of
from r1exp.model.settings import ModelShape
from r1exp.plan.batch import RlBatch
from r1exp.plan.references import PREFIX
from r1exp.plan.steps import PlannedStep
from r1exp.prompt.chat import messages
from r1exp.rollout.settings import HfRollout, VllmColocate
from r1exp.stage.config import StepConfig
from r1exp.stage.kinds import Sft

_CHARACTERS_PER_TOKEN = 3
_LOOKED_AT = 500  # problems


def memory_lines(step: PlannedStep) -> list[str]:
    """Return the estimate as lines of a plan."""
    config = step.config
    shape = shape_of(config.model)
    if shape is None:
        return ["memory per device: not known before the model's config.json is on this machine"]
    prompt = _longest_prompt(step)
    if prompt is None:
        return ["memory per device: not known before the data is on this machine"]
    lines = memory_per_device(shape, config.model, _load(step, prompt)).lines()
    if step.device == "cpu" and config.launcher.num_processes > 1:
        lines.append(
            f"on a CPU the {config.launcher.num_processes} ranks share one memory: it is taken as often"
        )
    if isinstance(config.rollout, VllmColocate) and (step.batch is None or config.online is not None):
        lines.append(_share_of_vllm(config.rollout, step.device))
    return lines


def _share_of_vllm(settings: VllmColocate, device: Device) -> str:
    if device == "cpu":
        return (
            f"and vLLM beside it: its own copy of the weights and a cache of {settings.cpu_kvcache_gib} GiB"
        )
    share = f"{100 * settings.gpu_memory_utilization:.0f} % of the device"
    return f"and vLLM beside it: {share} (rollout.gpu_memory_utilization){', while it generates' if settings.sleep else ''}"


def _load(step: PlannedStep, prompt_tokens: int) -> Load:
    config = step.config
    length = prompt_tokens + config.max_completion_length
    if step.batch is None:
        rows = config.rollout.batch_size if isinstance(config.rollout, HfRollout) else 0
        return Load(False, False, 0, length, 0, rows, device=step.device)
    load = Load(
        trains=True,
        keeps_reference=False,
        rows=step.batch.rows_per_device,
        tokens=length,
        logit_tokens=length,
        sampled_rows=0,
        world_size=step.batch.world_size,
        zero_stage=config.launcher.stage,
        offload=getattr(config.launcher, "offload", False),
        accumulates=step.batch.accumulation > 1,
        device=step.device,
    )
    if isinstance(config.stage, Sft):
        longest = min(length, int(config.trainer.get("max_length") or length))
        return replace(load, tokens=longest, logit_tokens=longest)
    if not isinstance(step.batch, RlBatch):  # pairs: two rows each
        return replace(load, keeps_reference=bool(config.beta), rows=2 * load.rows)
    assert config.online is not None
    return replace(
        load,
        keeps_reference=bool(config.beta) or config.online.track_kl,
        logit_tokens=config.max_completion_length,
        sampled_rows=load.rows * step.batch.steps_per_generation
        if isinstance(config.rollout, HfRollout)
        else 0,
        critic=_critic_shape(config),
    )


def _critic_shape(config: StepConfig) -> ModelShape | None:
    """Return the sizes of PPO's value model; one that is not on this machine is taken to be the policy's size."""
    if not isinstance(config.online, Ppo) or config.online.critic.kind != "separate":
        return None
    policy = shape_of(config.model)
    path = config.online.critic.path
    if path is None or path.startswith(PREFIX):  # an earlier step's, which starts from the same model
        return policy
    return shape_of(config.model.model_copy(update={"path": path, "revision": None})) or policy


def _longest_prompt(step: PlannedStep) -> int | None:
    """Return the tokens of the longest of the first problems with the words around it."""
    if step.num_problems is None:
        return None
    split: Split = "train" if step.batch is not None else "test"
    problems = step.config.dataset.first(split, _LOOKED_AT)
    texts = (messages(problem.prompt, step.config.prompt) for problem in problems)
    return max(sum(len(message["content"]) for message in text) for text in texts) // _CHARACTERS_PER_TOKEN
