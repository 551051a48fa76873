"""Evaluates a model on held-out problems, sampled and greedy; the problems are divided among the ranks."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from r1exp.distributed import interleave, shard
from r1exp.evaluation.score import Scores, score
from r1exp.files import whole_folder, write_json, write_text
from r1exp.paths import ArtifactPaths, StepPaths
from r1exp.records import Problem
from r1exp.stage.context_length import refuse_beyond_context
from r1exp.stage.generator import generator_for, kept_rows
from r1exp.stage.step import Step
from r1exp.stage.tracking import open_trackers
from r1exp.step.progress import ProgressWriter
from r1exp.tracking.completions import CompletionFiles


def measure(step: Step, folder: Path) -> str | None:
    """Write `artifact/scores.json` and `artifact/answers.jsonl`, and return its identity in trackers.

    Rank r of W evaluates every W-th problem from the r-th on, and samples with its own seed.
    """
    config = step.config
    state = PartialState(cpu=step.device == "cpu")
    problems = list(islice(config.dataset.stream("test"), config.evaluation.num_problems))
    refuse_beyond_context(problems, step)
    rank, num_ranks = state.process_index, state.num_processes
    per_problem = config.evaluation.samples + int(config.evaluation.greedy)
    progress = ProgressWriter(folder, "completions", len(problems) * per_problem, share=1 / num_ranks)
    kept = kept_rows(step, folder)
    generator = generator_for(step, folder, kept, progress.advance)
    mine = score(
        generator, shard(problems, rank, num_ranks), config.prompt, config.evaluation, config.seed + rank
    )
    scores = _whole(gather_object([mine]))
    if state.is_main_process:
        _save(scores, StepPaths(folder).artifact)
    with open_trackers(step, folder) as trackers:
        if state.is_main_process:
            files = CompletionFiles(config.completions, folder)
            rows = files.write("evaluation", files.sample(_by_problem(scores, problems)))
            trackers.log_completions(rows, 0)
        trackers.summarize({f"accuracy/{mode}": values["value"] for mode, values in scores.summary().items()})
    state.wait_for_everyone()
    kept.remove()
    return trackers.identity


def _whole(shards: list[Scores]) -> Scores:
    """Return the problems of all ranks in their original order."""
    return Scores(
        problem_ids=tuple(interleave([list(shard.problem_ids) for shard in shards])),
        outcomes={
            mode: interleave([shard.outcomes[mode] for shard in shards]) for mode in shards[0].outcomes
        },
        judged=tuple(interleave([list(shard.judged) for shard in shards])),
    )


def _by_problem(scores: Scores, problems: Sequence[Problem]) -> list[list[dict[str, Any]]]:
    """Return the completions of each problem as rows for a person."""
    prompts = {problem.id: problem.prompt for problem in problems}
    groups: dict[str, list[dict[str, Any]]] = {}
    for judged in scores.judged:
        row = {
            "problem": judged.problem_id,
            "prompt": prompts[judged.problem_id],
            "answer": judged.gold,
            "mode": judged.mode,
            "completion": judged.text,
            "read": judged.answer,
            "correct": judged.correct,
            "tokens": judged.num_tokens,
            "cut": not judged.finished,
        }
        groups.setdefault(judged.problem_id, []).append(row)
    return list(groups.values())


def _save(scores: Scores, artifact: Path) -> None:
    with whole_folder(artifact) as unfinished:
        write_json(ArtifactPaths(unfinished).scores, scores.to_json())
        rows = (json.dumps(row, ensure_ascii=False) for row in scores.rows())
        write_text(ArtifactPaths(unfinished).answers, "".join(f"{row}\n" for row in rows))
