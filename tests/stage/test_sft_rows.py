"""Rows of stage=sft: what is learned, and what is too long to be learned whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from r1exp.algorithm.learned_turns import LearnedTurns, turns_of
from r1exp.config.experiment import Experiment
from r1exp.dataset.jsonl import Jsonl
from r1exp.errors import Refused
from r1exp.model.load import load_tokenizer
from r1exp.model.preview import chat_tokenizer
from r1exp.model.tiny import build_tiny
from r1exp.plan.steps import PlannedStep, planned_steps
from r1exp.records import Message
from r1exp.stage.sft_rows import FittingRows, demonstrations
from r1exp.stage.step import Step
from r1exp.stage.training_rows import dataset_of
from tests.model.chat_templates import QWEN3
from tests.model.tokenizers_on_disk import tokenizer_folder

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
    planned = chat_tokenizer(step.config.model)
    assert planned is not None
    for problem in step.config.dataset.first("train", 20):
        [row] = demonstrations(problem, step.config, "all")
        found = planned.tokens(row["messages"], row["learned"])
        assert found == turns_of(tokenizer).tokens(row["messages"], row["learned"])
        assert planned.count(row["messages"]) == len(found[0]) == num_tokens(row["messages"], tokenizer)
    rows = FittingRows(step.config.dataset.load("train"), step.config, "all", planned)
    assert len(list(rows)) == rows.num_fitting == rows.num_turns == 64


def num_tokens(messages: list[Message], tokenizer: Any) -> int:
    return len(tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])


@pytest.mark.parametrize("every_token", [False, True])
def test_a_worked_solution_has_the_ids_and_labels_that_trl_computes(
    every_token: bool, frozen: Callable[..., Step], tmp_path: Path
) -> None:
    from trl import SFTConfig, SFTTrainer

    step = frozen(*SFT)
    build_tiny(step.config.model, tmp_path / "model")
    tokenizer = load_tokenizer(str(tmp_path / "model"), step.config.model)
    problems = step.config.dataset.first("train", 5)
    rows = [row for problem in problems for row in demonstrations(problem, step.config, "all")]
    args = SFTConfig(
        completion_only_loss=not every_token, shuffle_dataset=False, report_to=[], output_dir=str(tmp_path),
        use_cpu=True, bf16=False,
    )  # fmt: skip
    halves = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows]
    prepared = [
        trainer(
            str(tmp_path / "model"),
            args,
            train_dataset=Dataset.from_list(given),
            processing_class=tokenizer,
        ).train_dataset.select_columns(["input_ids", "labels"])
        for trainer, given in ((SFTTrainer, halves), (LearnedTurns, rows))
    ]
    assert prepared[0].to_list() == prepared[1].to_list()
    assert all((-100 in labels) != every_token for labels in prepared[1]["labels"])


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
    assert demonstrations(problem, step.config, "all") == [{"messages": [system, ask, reply], "learned": [2]}]


TALK = [
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "And 3 more?"},
    {"role": "assistant", "content": "Five."},
]
MIXED = [
    {"messages": TALK},
    {"id": "sum", "question": "2 + 2?", "answer": 4, "solution": "2 + 2 = 4"},
    {"id": "asked", "question": TALK[:3], "answer": 5, "solution": "2 + 3 = 5"},
    {"question": TALK, "answer": None},
]


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """Return a file of chats and problems."""
    file = tmp_path / "mixed.jsonl"
    file.write_text("\n".join(map(json.dumps, MIXED)))
    return str(file)


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        pytest.param("all", [(5, [2, 4]), (3, [2]), (5, [4]), (5, [2, 4])], id="all"),
        pytest.param("each", [(3, [2]), (5, [4]), (3, [2]), (5, [4]), (3, [2]), (5, [4])], id="each"),
        pytest.param("last", [(5, [4]), (3, [2]), (5, [4]), (5, [4])], id="last"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "hf"])
def test_chats_and_problems_of_one_file_teach_the_turns_that_are_chosen(
    kind: str, turns: str, expected: list[tuple[int, list[int]]], mixed: str, compose_line: Compose
) -> None:
    chosen = (
        "stage=sft",
        f"dataset={kind}",
        f"dataset.path={mixed}",
        "dataset.num_test=0",
        f"stage.chat_turns={turns}",
    )
    step = planned(compose_line, *chosen, "stage.rows_per_step=2", *QUIET)
    assert step.num_problems == len(expected)
    problems = step.config.dataset.load("train")
    rows = [row for problem in problems for row in demonstrations(problem, step.config, turns)]  # type: ignore[arg-type]  # parametrized
    assert [(len(row["messages"]), row["learned"]) for row in rows] == expected
    assert [rows[0]["messages"][place]["role"] for place in rows[0]["learned"]] == ["assistant"] * len(
        expected[0][1]
    )


def test_the_plan_says_how_many_turns_are_learned(mixed: str, compose_line: Compose) -> None:
    chosen = (
        "stage=sft",
        "dataset=jsonl",
        f"dataset.path={mixed}",
        "dataset.num_test=0",
        "stage.rows_per_step=2",
    )
    step = planned(compose_line, *chosen, *QUIET)
    assert step.config.stage is not None
    assert step.config.stage.data_notes(step.config) == [
        "4 training rows teach 6 turns of the assistant (2 chats)"
    ]


def test_the_turns_that_are_chosen_change_the_key_of_a_step(mixed: str, compose_line: Compose) -> None:
    line = (
        "stage=sft",
        "dataset=jsonl",
        f"dataset.path={mixed}",
        "dataset.num_test=0",
        "stage.rows_per_step=1",
        *QUIET,
    )
    every, last = (planned(compose_line, *line, f"stage.chat_turns={turns}") for turns in ("all", "last"))
    assert every.key != last.key
    assert "chat_turns" not in every.config.deciding_settings()["stage"]


def test_a_template_that_rewrites_earlier_turns_is_refused_by_name(
    compose_line: Compose, tmp_path: Path
) -> None:
    model = tokenizer_folder(tmp_path / "own-qwen3", QWEN3)
    think = [turn | {"content": "<think>so</think>\n" + turn["content"]} for turn in TALK]
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"id": "talk", "messages": think}))
    line = ("stage=sft", "dataset=chat", f"dataset.path={file}", "stage.rows_per_step=1", *QUIET)
    rows = compose_line(*line, "model=tiny").steps[0].config
    settings = rows.model.model_copy(update={"path": str(model), "kind": "hf"})
    config = rows.model_copy(update={"model": settings})
    tokenizer = chat_tokenizer(settings)
    with pytest.raises(
        Refused, match=r"chat 'talk': the chat template of model.path=.*own-qwen3 .*stage.chat_turns=each"
    ):
        list(FittingRows(config.dataset.load("train"), config, "all", tokenizer))
    assert len(list(FittingRows(config.dataset.load("train"), config, "each", tokenizer))) == 2
    assert (
        len(list(FittingRows(config.dataset.load("train"), config, "all", tokenizer, every_token=True))) == 1
    )


def test_a_chat_that_is_too_long_is_refused_or_left_out_whole(mixed: str, compose_line: Compose) -> None:
    chosen = (
        "stage=sft",
        "dataset=jsonl",
        f"dataset.path={mixed}",
        "dataset.num_test=0",
        "stage.rows_per_step=1",
        *QUIET,
    )
    with pytest.raises(Refused, match=r"3 of 4 training rows have more than trainer.max_length=22"):
        planned(compose_line, *chosen, "trainer.max_length=22")
    step = planned(compose_line, *chosen, "trainer.max_length=22", "stage.too_long=drop")
    assert step.num_problems == 1


def test_a_question_without_an_answer_is_still_refused(tmp_path: Path, compose_line: Compose) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"question": "1 + 1?", "answer": None}))
    with pytest.raises(Refused, match="line 1: column 'answer' holds null"):
        planned(
            compose_line, "stage=sft", "dataset=jsonl", f"dataset.path={file}", "dataset.num_test=0", *QUIET
        )


def test_chats_without_an_answer_are_held_out_but_not_evaluated(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"{n}?"}, *TALK[1:2]]} for n in range(20)]
    rows += [{"question": f"{n} + 1?", "answer": n + 1} for n in range(20)]  # type: ignore[dict-item]  # another kind of row
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    data = Jsonl(
        kind="jsonl", path=str(file), test_path=None, num_test=10, question="question", answer="answer",
        solution="solution", limit=None, test_limit=None,
    )  # fmt: skip
    train, test = data.load("train"), data.load("test")
    assert (len(train), len(test)) == (data.count("train"), data.count("test"))
    assert len(train) == 30 and 0 < len(test) < 10
    assert all(problem.answer is not None for problem in test)


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
