"""Evaluates a model on the suites of held-out problems; the problems of each are divided among the ranks."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from r1exp.distributed import interleave, shard
from r1exp.errors import Refused
from r1exp.evaluation.harness import HarnessRun, python_of, run_harness
from r1exp.evaluation.harness_results import DECODING
from r1exp.evaluation.metrics import Judged, Metrics
from r1exp.evaluation.score import Scores, score, without_unreadable
from r1exp.evaluation.settings import Suite
from r1exp.files import whole_folder, write_json, write_text
from r1exp.model.adapters import base_of, is_adapter_folder
from r1exp.model.scorer import open_reward_model
from r1exp.paths import ArtifactPaths, StepPaths
from r1exp.records import Problem
from r1exp.rewards.committee import Committee
from r1exp.serving.command import served_name
from r1exp.stage.base import resolved_path
from r1exp.stage.context_length import prompt_counter, refuse_beyond_context
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
    suites = config.evaluation.resolved(config.dataset, config.prompt)
    problems: dict[str, list[Problem]] = {}
    unreadable: dict[str, list[str]] = {}
    for suite in suites:
        problems[suite.name], unreadable[suite.name] = _problems(suite, step)
    rank, num_ranks = state.process_index, state.num_processes
    total = sum(len(problems[suite.name]) * suite.completions_per_problem for suite in suites) or 1
    progress = ProgressWriter(folder, "completions", total, share=1 / num_ranks)
    kept = kept_rows(step, folder)
    generator = generator_for(step, folder, progress.advance, kept) if suites else None
    count_tokens = prompt_counter(step) if suites else None
    found: list[Scores] = []
    with ExitStack() as stack:
        committee = stack.enter_context(closing(_committee(step))) if config.evaluation.best_of else None
        for suite in suites:
            assert generator is not None
            mine = score(
                generator,
                shard(problems[suite.name], rank, num_ranks),
                suite,
                config.seed + rank,
                config.rewards,
                committee,
                count_tokens,
            )
            found.append(_whole(gather_object([mine])))
    metrics = {scores.suite: scores.metrics() for scores in found}
    state.wait_for_everyone()  # the last time: other ranks do not wait for a harness
    tasks: dict[str, Any] = {}
    if state.is_main_process:
        if config.evaluation.harness is not None:
            progress.move_to(total, f"{config.evaluation.harness} runs", now=True)
            tasks = _tasks(step, folder)
        _save(found, metrics, unreadable, tasks, StepPaths(folder).artifact)
    with open_trackers(step, folder) as trackers:
        if state.is_main_process:
            files = CompletionFiles(config.completions, folder)
            groups = [group for scores in found for group in _readable(scores, problems[scores.suite])]
            trackers.log_completions(files.write("evaluation", files.sample(groups)), 0)
        tracked = _tracked(metrics, is_named=bool(config.evaluation.suites))
        trackers.summarize(tracked | _tracked_tasks(tasks))
    kept.remove()
    return trackers.identity


def _problems(suite: Suite, step: Step) -> tuple[list[Problem], list[str]]:
    """Return the problems of a suite, and the ids of those whose gold answer cannot be read.

    Raises:
        Refused: no gold answer can be read, or a prompt is too long.
    """
    config = step.config
    read = list(islice(suite.dataset.stream("test"), suite.num_problems))
    problems, unreadable = without_unreadable(read, suite, config.rewards)
    if read and not problems:
        where = f"suite {suite.name}: " if config.evaluation.suites else ""
        raise Refused(
            f"{where}none of the {len(read)} held-out problems has a gold answer that can be read, e.g. "
            f"{read[0].answer!r} of {read[0].id!r}; docs/judgement.md lists what can be; the column answer_kind: text "
            "compares words"
        )
    limit = (config.evaluation.name_of(suite.name, "max_tokens"), suite.max_tokens)
    refuse_beyond_context(problems, step, suite.prompt, limit)
    return problems, unreadable


def _committee(step: Step) -> Committee:
    assert step.config.rewards is not None  # refused by `Evaluate.check_data`
    return Committee(step.config.rewards, openers={"reward_model": open_reward_model})


def _whole(shards: list[Scores]) -> Scores:
    """Return the problems of all ranks in their original order."""
    return Scores(
        suite=shards[0].suite,
        problem_ids=tuple(interleave([list(shard.problem_ids) for shard in shards])),
        judged={mode: interleave([shard.judged[mode] for shard in shards]) for mode in shards[0].judged},
    )


def _readable(scores: Scores, problems: Sequence[Problem]) -> list[list[dict[str, Any]]]:
    """Return the completions of each problem as rows for a person."""
    prompts = {problem.id: problem.prompt for problem in problems}
    return [[_row(judged, prompts[judged.problem_id]) for judged in group] for group in scores.by_problem()]


def _row(judged: Judged, prompt: str) -> dict[str, Any]:
    return {
        "suite": judged.suite,
        "problem": judged.problem_id,
        "prompt": prompt,
        "answer": judged.gold,
        "mode": judged.mode,
        "completion": judged.text,
        "read": judged.answer,
        "correct": judged.correct,
        "how": judged.how,
        "tokens": judged.num_tokens,
        "cut": not judged.finished,
    } | ({} if judged.reward is None else {"reward": judged.reward})


def _tracked(metrics: Mapping[str, Mapping[str, Metrics]], *, is_named: bool) -> dict[str, float]:
    """Return what trackers show: the accuracies of the first suite, and those of each suite if suites are named."""
    first = next(iter(metrics.values()), {})
    found = {f"accuracy/{mode}": each["accuracy"]["value"] for mode, each in first.items()}
    if is_named:
        for suite, modes in metrics.items():
            for mode, values in modes.items():
                for name, value in values.items():
                    plain = value["value"] if isinstance(value, dict) else value
                    found[f"eval/{suite}/{mode}/{name}"] = plain
    return found


def _tracked_tasks(tasks: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"eval/{name}/{metric}": value["value"]
        for name, task in tasks.items()
        for metric, value in task["metrics"][DECODING].items()
    }


def _tasks(step: Step, folder: Path) -> dict[str, Any]:
    """Run the harness, and return its tasks as suites: HARNESS:TASK -> metrics, problems and outcomes."""
    config = step.config
    evaluation, model = config.evaluation, config.model
    assert evaluation.harness is not None
    path = Path(step.model_path)
    base = base_of(path) if is_adapter_folder(path) else None
    is_named = step.model_path == model.path
    run = HarnessRun(
        harness=evaluation.harness,
        tasks=tuple(evaluation.tasks),
        tasks_path=None if evaluation.tasks_path is None else resolved_path(evaluation.tasks_path),
        python=python_of(evaluation.harness, evaluation.harness_python),
        model=step.model_path,
        base=None if base is None else str(base[0]),
        revision=model.revision if is_named else None if base is None else base[1],
        dtype=model.compute_dtype,
        trusts_code=model.trust_remote_code,
        server=None if step.server is None else (step.server, served_name(step.key)),
        device=step.device,
        num_problems=evaluation.num_problems,
        seed=config.seed,
    )
    return {f"{run.harness}:{task.name}": task.to_json() for task in run_harness(run, folder / "harness")}


def _save(
    found: Sequence[Scores],
    metrics: Mapping[str, Mapping[str, Metrics]],
    unreadable: Mapping[str, list[str]],
    tasks: Mapping[str, Any],
    artifact: Path,
) -> None:
    suites = {
        scores.suite: {
            "metrics": metrics[scores.suite],
            "problem_ids": list(scores.problem_ids),
            "outcomes": scores.outcomes,
        }
        # ids of problems that were not asked
        | ({"unreadable_gold": unreadable[scores.suite]} if unreadable[scores.suite] else {})
        for scores in found
    }
    content: dict[str, Any] = {"suites": suites | dict(tasks)}
    if found:  # of the first suite, as other programs read it
        first = found[0].suite
        content = {
            "summary": {mode: each["accuracy"] for mode, each in metrics[first].items()},
            **{name: value for name, value in suites[first].items() if name != "metrics"},
            **content,
        }
    with whole_folder(artifact) as unfinished:
        write_json(ArtifactPaths(unfinished).scores, content)
        rows = (json.dumps(row, ensure_ascii=False) for scores in found for row in scores.rows())
        write_text(ArtifactPaths(unfinished).answers, "".join(f"{row}\n" for row in rows))
