"""Several answers to each training problem, scored by the committee: the material for preference pairs,
for rejection sampling and for knowing how hard each problem is.

    artifact/samples.jsonl  a problem a line, with every answer, its reward and whether it is right
    artifact/data.jsonl     a problem a line in the form of dataset=jsonl, with the column `pass_rate` (the
                            share of right answers) and the best right answer as its solution; problems
                            outside [min_pass_rate, max_pass_rate] are left out
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from r1exp.files import whole_folder, write_json, write_text
from r1exp.model.scorer import open_reward_model
from r1exp.prompt.answer import answer_or_last_number, same_answer
from r1exp.prompt.chat import messages
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context
from r1exp.rewards.committee import Committee
from r1exp.rollout.settings import Sampling
from r1exp.stage.config import StepConfig
from r1exp.stage.context_length import refuse_beyond_context
from r1exp.stage.generator import generator_for
from r1exp.stage.kinds import SAMPLES, Sample
from r1exp.stage.step import Step

DATA = "data.jsonl"


def sample(step: Step, folder: Path) -> str | None:
    """Write the artifact; ranks share the problems. Opens no W&B run."""
    config = step.config
    stage = config.stage
    assert isinstance(stage, Sample) and config.temperature is not None and config.rewards is not None
    state = PartialState(cpu=step.device == "cpu")
    caps = [cap for cap in (stage.num_problems, most_problems(config)) if cap is not None]
    problems = config.dataset.load("train")[: min(caps, default=None)]
    refuse_beyond_context(problems, step)
    rank, num_ranks = state.process_index, state.num_processes
    sampling = Sampling(
        temperature=config.temperature, max_tokens=config.max_completion_length, seed=config.seed + rank
    )
    mine = problems[rank::num_ranks]
    groups = generator_for(step, folder).generate(
        [messages(problem.prompt, config.prompt) for problem in mine], stage.samples, sampling
    )
    rows = [asdict(problem) | {"answers": []} for problem in mine]
    for row, answers in zip(rows, scored(config, mine, groups), strict=True):
        row["answers"] = answers
        row["pass_rate"] = pass_rate(answers)
    whole = [row for row in chain(*zip_longest(*gather_object([rows]))) if row is not None]
    if (
        config.debug.num_problems is not None
    ):  # a policy after two steps solves nothing; the run shall reach its end
        stage = stage.model_copy(update={"min_pass_rate": 0.0, "max_pass_rate": 1.0})
    if state.is_main_process:
        _save(whole, stage, folder / "artifact")
    state.wait_for_everyone()
    return None


def most_problems(config: StepConfig) -> int | None:
    """Return the cap of `debug`: enough pairs must be left to fill a batch of the training that follows."""
    return None if config.debug.num_problems is None else 8 * config.debug.num_problems


def scored(
    config: StepConfig, problems: Sequence[Problem], groups: Sequence[Sequence[Completion]]
) -> list[list[dict[str, Any]]]:
    """Return each answer with the committee's weighted reward; None where no member could score it."""
    assert config.rewards is not None
    committee = Committee(config.rewards, openers={"reward_model": open_reward_model})
    flat = [completion for group in groups for completion in group]
    repeated = [problem for problem, group in zip(problems, groups, strict=True) for _ in group]
    table = committee.score(repeated, flat, Context())
    committee.close()
    rewards = [
        _weighted([scores[row] for scores in table.values()], committee.weights) for row in range(len(flat))
    ]
    style = style_named(config.prompt.style)
    answers = iter(
        {
            "text": completion.text,
            "num_tokens": completion.num_tokens,
            "finished": completion.finished,
            "reward": reward,
            "right": same_answer(answer_or_last_number(style, completion.text), problem.answer)
            if problem.answer
            else None,
        }
        for problem, completion, reward in zip(repeated, flat, rewards, strict=True)
    )
    return [[next(answers) for _ in group] for group in groups]


def pass_rate(answers: Iterable[dict[str, Any]]) -> float | None:
    """Return the share of right answers; None where there is no gold answer to tell."""
    verdicts = [answer["right"] for answer in answers]
    return None if None in verdicts else sum(verdicts) / len(verdicts)


def _weighted(scores: Sequence[float | Abstain], weights: Sequence[float]) -> float | None:
    known = [
        (score, weight)
        for score, weight in zip(scores, weights, strict=True)
        if not isinstance(score, Abstain)
    ]
    return sum(score * weight for score, weight in known) if known else None


def _save(rows: list[dict[str, Any]], stage: Sample, artifact: Path) -> None:
    kept = [
        row
        for row in rows
        if row["pass_rate"] is None or stage.min_pass_rate <= row["pass_rate"] <= stage.max_pass_rate
    ]
    rates = [row["pass_rate"] for row in rows if row["pass_rate"] is not None]
    facts = {
        "num_problems": len(rows),
        "num_kept": len(kept),
        "num_answers": sum(len(row["answers"]) for row in rows),
        "mean_pass_rate": sum(rates) / len(rates) if rates else None,
    }
    with whole_folder(artifact) as unfinished:
        _write_rows(unfinished / SAMPLES, rows)
        _write_rows(unfinished / DATA, [_problem_row(row) for row in kept])
        write_json(unfinished / "facts.json", facts)


def _problem_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of dataset=jsonl; its solution is the best right answer, if there is one."""
    right = [answer for answer in row["answers"] if answer["right"]]
    columns = {name: value for name, value in row["columns"].items() if name != "solution"}
    if right:
        columns["solution"] = max(right, key=lambda answer: answer["reward"] or 0.0)["text"]
    return {
        **columns,
        "id": row["id"],
        "question": row["prompt"],
        "answer": row["answer"],
        "pass_rate": row["pass_rate"],
    }


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
