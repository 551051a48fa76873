"""Samples several answers to each training problem and scores them with the committee.

The answers are used for preference pairs and for rejection sampling, and to measure how hard each problem is.

    artifact/samples.jsonl  one problem per line, with every answer, its reward and whether it is correct
    artifact/data.jsonl     the answers that are kept (`r1exp.stage.selection`), in the form of dataset=jsonl, with the
                            column `pass_rate` (the share of correct answers); problems outside
                            [min_pass_rate, max_pass_rate] are left out
    artifact/facts.json     counts of what was kept, and of what was left out and why
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from r1exp.distributed import interleave
from r1exp.evaluation.judging import Judging, judgement_of
from r1exp.files import hash_of, whole_folder, write_json, write_json_lines
from r1exp.judgement.judgement import Judgement
from r1exp.model.scorer import open_reward_model
from r1exp.paths import ArtifactPaths, StepPaths
from r1exp.prompt.settings import StyleName
from r1exp.records import Completion, Problem
from r1exp.rewards.advice import evaluating_member
from r1exp.rewards.answer_reward import read_answer
from r1exp.rewards.base import NOT_APPLICABLE, Abstain, BatchScorer, Context, Score
from r1exp.rewards.committee import Committee
from r1exp.rollout.kept import KeptRows
from r1exp.stage.asking import ask
from r1exp.stage.config import StepConfig
from r1exp.stage.sample import Sample
from r1exp.stage.selection import select, summary
from r1exp.stage.step import Step
from r1exp.terminal import say
from r1exp.tracking.completions import CompletionFiles

_SCORED_AT_ONCE = 512  # completions that the rewards get in one batch


def sample_answers(step: Step, folder: Path) -> str | None:
    """Write the artifact; the problems are divided among the ranks. Tracks nothing."""
    config = step.config
    stage = config.stage
    assert isinstance(stage, Sample)
    asked = ask(step, folder, stage.num_problems, stage.samples, "completions")
    rows = [_sampled_row(problem) for problem in asked.problems]
    for row, answers in zip(rows, scored(config, asked.problems, asked.groups, asked.kept), strict=True):
        row["answers"] = answers
        row["pass_rate"] = pass_rate(answers)
    whole = interleave(gather_object([rows]))
    if config.debug.num_problems is not None:
        stage = stage.in_debug_run()
    if asked.state.is_main_process:
        _save(whole, stage, config.prompt.style, StepPaths(folder).artifact)
        files = CompletionFiles(config.completions, folder)
        files.write("samples", files.sample([list(_readable(row)) for row in whole]))
    asked.state.wait_for_everyone()
    asked.kept.remove()
    return None


def _sampled_row(problem: Problem) -> dict[str, Any]:
    """Return a row of samples.jsonl without answers; only that of a chat has the turns before the question."""
    row = {name: value for name, value in asdict(problem).items() if name != "completion"}
    row["earlier"] = list(row["earlier"])
    return {name: value for name, value in row.items() if name != "earlier" or value} | {"answers": []}


def scored(
    config: StepConfig,
    problems: Sequence[Problem],
    groups: Sequence[Sequence[Completion]],
    kept: KeptRows | None = None,
) -> list[list[dict[str, Any]]]:
    """Return the answers to each problem with their rewards.

    The reward is the committee's weighted total after group-mean imputation, as in training; None if no member could
    score the answer or another answer of its group, and without rewards. Problems are scored in batches. Each batch is
    kept, and within a batch each verdict of a judge.

    Args:
        config: Settings of the step.
        problems: The problems.
        groups: The completions of each problem.
        kept: What an interrupted execution of the step has left.
    """
    kept = kept or KeptRows()
    scores = kept.part("scores")
    done: dict[int, list[dict[str, Any]]] = dict(scores.rows)
    missing = [number for number in range(len(problems)) if number not in done]
    size = max(1, _SCORED_AT_ONCE // max(1, max(map(len, groups), default=1)))

    def open_judge(reward: Any) -> BatchScorer:
        scorer: BatchScorer = reward.open(kept.part(f"judge {hash_of(reward.model_dump(mode='json'))}"))
        return scorer

    judges = dict.fromkeys(("judge", "group_judge", "rubric"), open_judge)
    openers = {"reward_model": open_reward_model, **judges}
    committee = None if config.rewards is None else Committee(config.rewards, openers=openers)
    for start in range(0, len(missing), size):
        batch = missing[start : start + size]
        answers = _scored_batch(
            committee, config, [problems[number] for number in batch], [groups[number] for number in batch]
        )
        new = dict(zip(batch, answers, strict=True))
        scores.add(new)
        done |= new
    if committee is not None:
        committee.close()
    return [done[number] for number in range(len(problems))]


def _scored_batch(
    committee: Committee | None,
    config: StepConfig,
    problems: Sequence[Problem],
    groups: Sequence[Sequence[Completion]],
) -> list[list[dict[str, Any]]]:
    flat = [completion for group in groups for completion in group]
    repeated = [problem for problem, group in zip(problems, groups, strict=True) for _ in group]
    scores: Mapping[str, Sequence[Score]] = {}
    rewards: Sequence[float | None] = [None] * len(flat)
    if committee is not None:
        scores, rewards = committee.totals(repeated, flat, Context())
    judgements = _judgements(config, repeated, flat, scores)
    answers = iter(
        {
            "text": completion.text,
            "num_tokens": completion.num_tokens,
            "finished": completion.finished,
            "reward": reward,
            "right": None if judgement.verdict == "unreadable gold" else judgement.is_correct,
            "read": judgement.read,
            "how": judgement.how,
            "scores": _member_scores(scores, number),
        }
        for number, (completion, reward, judgement) in enumerate(zip(flat, rewards, judgements, strict=True))
    )
    return [[next(answers) for _ in group] for group in groups]


def _member_scores(scores: Mapping[str, Sequence[Score]], number: int) -> dict[str, float | None]:
    """Return the score of each member that applies to an answer; None: it could not score it."""
    found = {name: column[number] for name, column in scores.items()}
    return {
        name: None if isinstance(score, Abstain) else score
        for name, score in found.items()
        if score != NOT_APPLICABLE
    }


def _judgements(
    config: StepConfig,
    problems: Sequence[Problem],
    completions: Sequence[Completion],
    scores: Mapping[str, Sequence[Score]],
) -> list[Judgement]:
    """Return the judgement of each answer: that of the member that judges correctness, which has scored it already."""
    style, member = config.prompt.style, evaluating_member(config.rewards)
    if member is None or config.rewards is None:
        return _judged_by_default(style, problems, completions)
    reward = config.rewards[member]
    judgements = [
        judgement_of(score, member, reward, read_answer("style_or_last_number", style, completion.text))
        for score, completion in zip(scores[member], completions, strict=True)
    ]
    # Rows that the member does not judge (applies_to): by the judge that evaluations have for them.
    others = [row for row, score in enumerate(scores[member]) if score == NOT_APPLICABLE]
    found = _judged_by_default(style, [problems[row] for row in others], [completions[row] for row in others])
    for row, judgement in zip(others, found, strict=True):
        judgements[row] = judgement
    return judgements


def _judged_by_default(
    style: str, problems: Sequence[Problem], completions: Sequence[Completion]
) -> list[Judgement]:
    if not problems:
        return []
    judging = Judging("reward", style)
    judgements = judging.judge(problems, completions)
    judging.close()
    return judgements


def pass_rate(answers: Iterable[dict[str, Any]]) -> float | None:
    """Return the share of correct answers; None if the problem has no gold answer."""
    verdicts = [answer["right"] for answer in answers]
    return None if None in verdicts else sum(verdicts) / len(verdicts)


def _save(rows: list[dict[str, Any]], stage: Sample, style: StyleName, artifact: Path) -> None:
    selection = select(rows, stage, style)
    with whole_folder(artifact) as unfinished:
        paths = ArtifactPaths(unfinished)
        write_json_lines(paths.samples, rows)
        write_json_lines(paths.data, selection.rows)
        write_json(paths.facts, selection.facts)
    say(summary(selection.facts))


def _readable(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the answers to a problem as rows for a person."""
    for answer in row["answers"]:
        yield {
            "problem": row["id"],
            "prompt": row["prompt"],
            "answer": row["answer"],
            "completion": answer["text"],
            "correct": answer["right"],
            "read": answer["read"],
            "how": answer["how"],
            "reward": answer["reward"],
            "tokens": answer["num_tokens"],
            "cut": not answer["finished"],
        }
