"""Rows of stage=sft: what is learned, and what is too long to be learned whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.model.load import load_tokenizer
from r1exp.model.preview import token_counter
from r1exp.model.tiny import build_tiny
from r1exp.plan.steps import PlannedStep, planned_steps
from r1exp.stage.sft_rows import FittingRows, demonstration
from r1exp.stage.step import Step
from r1exp.stage.train_sft import num_tokens
from r1exp.stage.training_rows import dataset_of

Compose = Callable[..., Experiment]
QUIET = ("evaluation.before=false", "evaluation.after=false")
SFT = ("stage=sft", "dataset.num_train=64", *QUIET)


def planned(compose_line: Compose, *overrides: str) -> PlannedStep:
    (step,) = planned_steps(compose_line(*overrides))
    return step


def test_rows_whose_answer_would_be_cut_are_refused_by_the_plan(compose_line: Compose) -> None:
    """9630a96 trained on `...9+5=` without a word."""
    with pytest.raises(
        Refused, match=r"\d+ of 64 training rows have more than trainer.max_length=\d+ tokens \(the longest"
    ):
        planned(compose_line, *SFT, "trainer.max_length=40")
    assert planned(compose_line, *SFT).num_problems == 64


def test_rows_that_are_too_long_are_left_out_and_counted(compose_line: Compose) -> None:
    chosen = (*SFT, "stage.too_long=drop", "stage.rows_per_step=8", "trainer.max_length=43")
    step = planned(compose_line, *chosen)
    assert step.num_problems is not None and 8 <= step.num_problems < 64
    assert step.config.stage is not None
    (note,) = step.config.stage.data_notes(step.config)
    assert (
        note.startswith(f"{64 - step.num_problems} of 64 training rows have more than")
        and "are left out" in note
    )
    with pytest.raises(Refused, match="leaves 0, fewer than the 8 of one optimizer step"):
        planned(compose_line, *chosen[:-1], "trainer.max_length=9")


def test_only_dropping_changes_the_key_of_a_step(compose_line: Compose) -> None:
    before, after = (planned(compose_line, *SFT, *more) for more in ([], ["stage.too_long=drop"]))
    assert before.key != after.key
    assert "too_long" not in before.config.deciding_settings()["stage"]


def test_the_plan_and_the_step_count_the_same_tokens(frozen: Callable[..., Step], tmp_path: Path) -> None:
    step = frozen(*SFT)
    build_tiny(step.config.model, tmp_path / "model")
    tokenizer = load_tokenizer(str(tmp_path / "model"), step.config.model)
    count = token_counter(step.config.model)
    assert count is not None
    for problem in step.config.dataset.first("train", 20):
        row = demonstration(problem, step.config)
        turns = row["prompt"] + row["completion"]
        assert count(turns) == num_tokens(turns, tokenizer)
    rows = FittingRows(step.config.dataset.load("train"), step.config, lambda turns: 1)
    assert len(list(rows)) == rows.num_fitting == 64


def test_a_row_without_a_solution_is_refused_by_file_and_line(compose_line: Compose, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [
        {"question": f"{n}?", "answer": n, "cot": None if n == 7 else "so", "solution": "x"}
        for n in range(80)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    chosen = ("stage=sft", "dataset=jsonl", f"dataset.path={file}", "dataset.num_test=0", *QUIET)
    with pytest.raises(
        Refused, match=r"rows\.jsonl, line 8: the row has no solution \(dataset column 'cot'\)"
    ):
        planned(compose_line, *chosen, "dataset.solution=cot")
    assert planned(compose_line, *chosen).num_problems == 80


def test_a_chat_is_learned_as_it_is_after_its_own_system_text(compose_line: Compose, tmp_path: Path) -> None:
    system, ask = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}
    reply = {"role": "assistant", "content": "Two."}
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"messages": [system, ask, reply]}))
    step = planned(
        compose_line, "stage=sft", "dataset=chat", f"dataset.path={file}", "stage.rows_per_step=1", *QUIET
    )
    (problem,) = step.config.dataset.load("train")
    assert demonstration(problem, step.config) == {"prompt": [system, ask], "completion": [reply]}


def test_many_rows_are_mapped_from_files_and_equal_those_in_memory(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": str(n), "answer": None if n < 4 else "1", "tags": [n]} for n in range(10)
    ]
    rows[7]["late"] = 1.5  # a column that only one row has
    in_memory, mapped = dataset_of(rows, tmp_path), dataset_of(rows, tmp_path, rows_in_memory=3)
    assert mapped.to_list() == in_memory.to_list()
    assert in_memory.to_list()[7]["late"] == 1.5 and not in_memory.cache_files
    assert len(mapped.cache_files) == 4
    assert isinstance(mapped.map(lambda row: {"length": len(row["id"])}), Dataset)
