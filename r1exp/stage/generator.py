"""Who answers the prompts of a step that does not train: the composed rollout, whichever kind it is."""

from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState

from r1exp.errors import StepFailed
from r1exp.files import read_json
from r1exp.model.load import load_tokenizer
from r1exp.rollout.settings import Endpoint, Generator, HfRollout, VllmColocate
from r1exp.serving.command import served_name
from r1exp.serving.supervisor import STATE
from r1exp.stage.step import Step


def generator_for(step: Step, folder: Path) -> Generator:
    """Return the generator of a step's rollout on this rank; it loads what it needs.

    Args:
        step: A step that generates and does not train.
        folder: Its folder.
    """
    rollout = step.config.rollout
    if isinstance(rollout, Endpoint):
        from r1exp.rollout.endpoint import EndpointGenerator

        return EndpointGenerator(rollout)
    tokenizer = load_tokenizer(step.model_path, step.config.model)
    if isinstance(rollout, HfRollout):
        from r1exp.model.load import load_policy
        from r1exp.rollout.hf import HfGenerator

        policy = load_policy(step.model_path, step.config.model).to(PartialState().device)
        return HfGenerator(policy, tokenizer, rollout)
    if isinstance(rollout, VllmColocate):
        from r1exp.rollout.vllm import VllmGenerator

        return VllmGenerator(step.model_path, step.config.model, tokenizer, rollout, step.device)
    from r1exp.serving.generator import ServerGenerator

    if step.server is None:
        raise StepFailed(
            f"{folder / 'step.json'} names no server, and rollout=vllm_server has none without `r1exp` to start it; "
            "start the step with r1exp, or use rollout=vllm_colocate"
        )
    return ServerGenerator(
        step.server,
        served_name(step.key),
        tokenizer,
        model_path=step.model_path,
        revision=step.config.model.revision,
        settings=rollout,
        why_lost=_why_lost(folder),
    )


def _why_lost(folder: Path) -> Callable[[], str | None]:
    """Return a function that says why the step's server will not come back; None while there is hope."""

    def look() -> str | None:
        state = read_json(folder / STATE)
        return state["reason"] or "it was ended" if state["state"] in ("failed", "ended") else None

    return look
