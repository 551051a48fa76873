"""Builds the generator of a step that does not train, from the step's rollout."""

from collections.abc import Callable
from pathlib import Path

from r1exp.registry import load
from r1exp.rollout.base import Generator, GeneratorInputs
from r1exp.stage.step import Step


def generator_for(
    step: Step, folder: Path, advance: Callable[[float], None] = lambda amount: None
) -> Generator:
    """Return the generator of a step's rollout on this rank; loads the model if the rollout needs it.

    Args:
        step: A step that generates and does not train.
        folder: Folder of the step.
        advance: Receives how many completions are new, also in parts.
    """
    rollout = step.config.rollout
    inputs = GeneratorInputs(
        model_path=step.model_path,
        model=step.config.model,
        device=step.device,
        server=step.server,
        key=step.key,
        folder=folder,
        advance=advance,
    )
    generator: Generator = load(rollout.generator)(rollout, inputs)
    return generator
