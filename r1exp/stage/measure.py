"""Evaluates a model on held-out problems, sampled and greedy; the problems are divided among the ranks."""

import json
from itertools import islice
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object

from r1exp.distributed import interleave, shard
from r1exp.errors import ExitCode
from r1exp.evaluation.score import Scores, score
from r1exp.files import whole_folder, write_json, write_text
from r1exp.paths import ArtifactPaths, StepPaths
from r1exp.stage.base import smallest
from r1exp.stage.context_length import refuse_beyond_context
from r1exp.stage.generator import generator_for
from r1exp.stage.step import Step
from r1exp.stage.tracking import close_run, open_run


def measure(step: Step, folder: Path) -> str | None:
    """Write `artifact/scores.json` and `artifact/answers.jsonl`, and return the W&B id.

    Rank r of W evaluates every W-th problem from the r-th on, and samples with its own seed.
    """
    config = step.config
    state = PartialState(cpu=step.device == "cpu")
    limit = smallest(config.evaluation.num_problems, config.debug.num_problems)
    problems = list(islice(config.dataset.stream("test"), limit))
    refuse_beyond_context(problems, step)
    generator = generator_for(step, folder)
    rank, num_ranks = state.process_index, state.num_processes
    mine = score(
        generator, shard(problems, rank, num_ranks), config.prompt, config.evaluation, config.seed + rank
    )
    scores = _whole(gather_object([mine]))
    run = open_run(step, folder)
    if run is not None:
        run.set_summary({f"accuracy/{mode}": values["value"] for mode, values in scores.summary().items()})
    if state.is_main_process:
        _save(scores, StepPaths(folder).artifact)
    state.wait_for_everyone()
    return close_run(run, ExitCode.DONE)


def _whole(shards: list[Scores]) -> Scores:
    """Return the problems of all ranks in their original order."""
    return Scores(
        problem_ids=tuple(interleave([list(shard.problem_ids) for shard in shards])),
        outcomes={
            mode: interleave([shard.outcomes[mode] for shard in shards]) for mode in shards[0].outcomes
        },
        judged=tuple(interleave([list(shard.judged) for shard in shards])),
    )


def _save(scores: Scores, artifact: Path) -> None:
    with whole_folder(artifact) as unfinished:
        write_json(ArtifactPaths(unfinished).scores, scores.to_json())
        rows = (json.dumps(row, ensure_ascii=False) for row in scores.rows())
        write_text(ArtifactPaths(unfinished).answers, "".join(f"{row}\n" for row in rows))
