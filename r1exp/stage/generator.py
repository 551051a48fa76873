"""Builds the generator of a step that does not train, from the step's rollout."""

from pathlib import Path

from r1exp.registry import load
from r1exp.rollout.base import Generator, GeneratorInputs
from r1exp.stage.step import Step


def generator_for(step: Step, folder: Path) -> Generator:
    """Return the generator of a step's rollout on this rank; loads the model if the rollout needs it.

    Args:
        step: A step that generates and does not train.
        folder: Folder of the step.
    """
    rollout = step.config.rollout
    inputs = GeneratorInputs(
        model_path=step.model_path,
        model=step.config.model,
        device=step.device,
        server=step.server,
        key=step.key,
        folder=folder,
    )
    generator: Generator = load(rollout.generator)(rollout, inputs)
    return generator
