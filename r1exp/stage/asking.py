"""Asks the step's rollout the problems of the training split, several times each, and keeps what is answered.

What stage=sample and stage=generate share.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

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


class Watch(Protocol):
    """Counts the completions of a rank."""

    def begin(self, progress: ProgressWriter, num_answers: int, num_ranks: int) -> None:
        """Receive where progress is shown, how many completions this rank will have, and how many ranks there are."""
        ...

    def add(self, completions: Collection[Completion]) -> None:
        """Receive completions; what it raises ends the step."""
        ...


@dataclass(frozen=True)
class Asked:
    """The answers of this rank."""

    state: PartialState  # of the ranks
    problems: list[Problem]  # of this rank
    groups: list[list[Completion]]  # the completions of each problem
    kept: KeptRows  # to be removed when the artifact is there
    num_new: int  # completions that no earlier execution of the step has left
    seconds: float  # in which they were generated, without loading a model

    def speed(self) -> str:
        """Return how many completions were generated and how fast, for a person."""
        rate = self.num_new / self.seconds if self.seconds > 0.0 else 0.0
        return f"{self.num_new:,} new in {self.seconds:.2f} s ({rate:.2f} per second)"


def ask(
    step: Step,
    folder: Path,
    num_problems: int | None,
    samples: int,
    unit: str,
    top_p: float = 1.0,
    watch: Watch | None = None,
) -> Asked:
    """Return the completions of this rank's share of the problems.

    Args:
        step: A step that generates and does not train.
        folder: Folder of the step.
        num_problems: Only the first problems; None: all.
        samples: Completions of each problem.
        unit: What is counted in the progress, in the plural.
        top_p: Share of the probability that is sampled from.
        watch: Counts completions, and may end the step.

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
    if watch is None:
        kept = kept_rows(step, folder)
    else:
        watch.begin(progress, len(mine) * samples, num_ranks)
        kept = kept_rows(step, folder, watch.add)
    prompts = [prompt_of(problem, config.prompt) for problem in mine]
    generator = generator_for(step, folder, progress.advance, kept)
    num_kept = kept.num_completions(prompts, samples, sampling)
    started = time.perf_counter()
    groups = generator.generate(prompts, samples, sampling)
    seconds = time.perf_counter() - started
    progress.move_to(num_answers, f"scoring the {unit}", now=True)
    return Asked(state, mine, groups, kept, len(mine) * samples - num_kept, seconds)
