"""Measure a model on held-out problems, sampled and greedy; ranks share the problems."""

import json
from itertools import chain, zip_longest
from pathlib import Path
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import gather_object

from r1exp.errors import ExitCode
from r1exp.evaluation.score import Scores, score
from r1exp.files import whole_folder, write_json, write_text
from r1exp.stage.context_length import refuse_beyond_context
from r1exp.stage.generator import generator_for
from r1exp.stage.step import Step
from r1exp.stage.tracking import close_run, open_run

Item = TypeVar("Item")


def evaluate(step: Step, folder: Path) -> str | None:
    """Write `artifact/scores.json` and `artifact/answers.jsonl`, and return the W&B id.

    Rank r of W takes every W-th problem from the r-th on, and samples from its own stream.
    """
    config = step.config
    state = PartialState(cpu=step.device == "cpu")
    problems = config.dataset.load("test")
    caps = [cap for cap in (config.evaluation.num_problems, config.debug.num_problems) if cap is not None]
    problems = problems[: min(caps)] if caps else problems
    refuse_beyond_context(problems, step)
    generator = generator_for(step, folder)
    rank, num_ranks = state.process_index, state.num_processes
    mine = score(generator, problems[rank::num_ranks], config.prompt, config.evaluation, config.seed + rank)
    scores = _whole(gather_object([mine]))
    run = open_run(step, folder)
    if run is not None:
        run.set_summary({f"accuracy/{mode}": values["value"] for mode, values in scores.summary().items()})
    if state.is_main_process:
        _save(scores, folder / "artifact")
    state.wait_for_everyone()
    return close_run(run, ExitCode.DONE)


def _whole(shards: list[Scores]) -> Scores:
    """Put the problems of all ranks back into one order."""
    return Scores(
        problem_ids=tuple(_interleaved([list(shard.problem_ids) for shard in shards])),
        outcomes={
            mode: _interleaved([shard.outcomes[mode] for shard in shards]) for mode in shards[0].outcomes
        },
        judged=tuple(_interleaved([list(shard.judged) for shard in shards])),
    )


def _interleaved(lists: list[list[Item]]) -> list[Item]:
    missing = object()
    rows = chain.from_iterable(zip_longest(*lists, fillvalue=missing))
    return [item for item in rows if item is not missing]  # type: ignore[misc]


def _save(scores: Scores, artifact: Path) -> None:
    with whole_folder(artifact) as unfinished:
        write_json(unfinished / "scores.json", scores.to_json())
        rows = (json.dumps(row, ensure_ascii=False) for row in scores.rows())
        write_text(unfinished / "answers.jsonl", "".join(f"{row}\n" for row in rows))
