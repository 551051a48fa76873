"""Who answers the prompts of a step that does not train: the composed rollout, whichever kind it is."""

from accelerate import PartialState
from transformers import PreTrainedTokenizerBase

from r1exp.errors import Refused
from r1exp.rollout.settings import Generator, HfRollout, VllmColocate
from r1exp.step.frozen import Step


def generator_for(step: Step, tokenizer: PreTrainedTokenizerBase) -> Generator:
    """Return the generator of a step's rollout on this rank; it loads what it needs."""
    rollout = step.config.rollout
    if isinstance(rollout, HfRollout):
        from r1exp.model.load import load_policy
        from r1exp.rollout.hf import HfGenerator

        policy = load_policy(step.model_path, step.config.model).to(PartialState().device)
        return HfGenerator(policy, tokenizer, rollout)
    if isinstance(rollout, VllmColocate):
        from r1exp.rollout.vllm import VllmGenerator

        return VllmGenerator(step.model_path, step.config.model, tokenizer, rollout, step.device)
    raise Refused(f"rollout={rollout.kind} answers no prompts of stage={step.config.stage}; use rollout=hf")
