"""Asks the step's rollout the problems of the training split, several times each, and keeps what is answered.

What stage=sample and stage=generate share.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from accelerate import PartialState

from r1exp.distributed import shard
from r1exp.prompt.chat import prompt_of
from r1exp.records import Completion, Problem
from r1exp.rollout.base import Sampling
from r1exp.rollout.kept import KeptRows
from r1exp.stage.context_length import refuse_beyond_context
from r1exp.stage.generator import generator_for, kept_rows
from r1exp.stage.step import Step
from r1exp.step.progress import ProgressWriter


@dataclass(frozen=True)
class Asked:
    """The answers of this rank."""

    state: PartialState  # of the ranks
    problems: list[Problem]  # of this rank
    groups: list[list[Completion]]  # the completions of each problem
    kept: KeptRows  # to be removed when the artifact is there


def ask(
    step: Step,
    folder: Path,
    num_problems: int | None,
    samples: int,
    unit: str,
    top_p: float = 1.0,
    watch: Callable[[ProgressWriter, int], Callable[[Collection[Completion]], None]] | None = None,
) -> Asked:
    """Return the completions of this rank's share of the problems.

    Args:
        step: A step that generates and does not train.
        folder: Folder of the step.
        num_problems: Only the first problems; None: all.
        samples: Completions of each problem.
        unit: What is counted in the progress, in the plural.
        top_p: Share of the probability that is sampled from.
        watch: Gets the progress and the number of completions of this rank; returns what receives new completions.

    Raises:
        Refused: a prompt is too long.
        StepFailed: completions cannot be generated.
    """
    config = step.config
    assert config.stage is not None and config.temperature is not None
    state = PartialState(cpu=step.device == "cpu")
    problems = list(islice(config.stage.problems(config), num_problems))
    refuse_beyond_context(problems, step)
    rank, num_ranks = state.process_index, state.num_processes
    sampling = Sampling(
        temperature=config.temperature,
        top_p=top_p,
        max_tokens=config.max_completion_length,
        seed=config.seed + rank,
    )
    mine = shard(problems, rank, num_ranks)
    num_answers = len(problems) * samples
    progress = ProgressWriter(folder, unit, num_answers, share=1 / num_ranks)
    kept = kept_rows(step, folder, *([] if watch is None else [watch(progress, len(mine) * samples)]))
    groups = generator_for(step, folder, progress.advance, kept).generate(
        [prompt_of(problem, config.prompt) for problem in mine], samples, sampling
    )
    progress.move_to(num_answers, f"scoring the {unit}", now=True)
    return Asked(state, mine, groups, kept)
