"""Builds the generator of a step that does not train, from the step's rollout."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from r1exp.distributed import rank, world_size
from r1exp.paths import StepPaths
from r1exp.records import Completion
from r1exp.registry import load
from r1exp.rollout.base import Generator, GeneratorInputs
from r1exp.rollout.kept import KeptRows
from r1exp.stage.step import Step


def kept_rows(
    step: Step,
    folder: Path,
    watch: Callable[[Collection[Completion]], None] = lambda completions: None,
) -> KeptRows:
    """Return what an interrupted execution of a step has left of this rank's rows.

    Rows belong to the key of the step and its number of ranks; those that a model in this process draws, also to the
    device and its threads, which shift the digits.

    Args:
        step: A step that generates and does not train.
        folder: Folder of the step.
        watch: Receives completions as soon as they are kept, and those that are kept already.
    """
    owner: dict[str, Any] = {"key": step.key, "rank": rank(), "world_size": world_size()}
    if not step.config.rollout.is_remote:
        owner["numerics"] = step.config.launcher.numerics(step.device)
    return KeptRows(StepPaths(folder).kept_rows(rank(), world_size()), owner, watch)


def generator_for(
    step: Step,
    folder: Path,
    advance: Callable[[float], None] = lambda amount: None,
    kept: KeptRows | None = None,
) -> Generator:
    """Return the generator of a step's rollout on this rank; loads the model if the rollout needs it.

    Args:
        step: A step that generates and does not train.
        folder: Folder of the step.
        advance: Receives how many completions are new, also in parts.
        kept: What an interrupted execution of the step has generated; None: nothing is kept.
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
        kept=kept or KeptRows(),
    )
    generator: Generator = load(rollout.generator)(rollout, inputs)
    return generator
