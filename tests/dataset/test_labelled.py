"""Labelled answers, from three forms of rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1exp.dataset.labelled import Labelled
from r1exp.errors import Refused
from r1exp.prompt.settings import PromptSettings
from r1exp.records import Problem
from r1exp.stage.pair_rows import labelled_rows

GOOD = {"prompt": "1 + 1?", "completion": "2", "label": True}
BAD = {
    "prompt": [{"role": "user", "content": "1 + 1?"}],
    "completion": [{"role": "assistant", "content": "3"}],
    "label": False,
}


def labelled(folder: Path, *rows: dict[str, Any], limit: int | None = None) -> Labelled:
    file = folder / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Labelled.model_validate({"kind": "labelled", "path": str(file), "limit": limit})


def test_texts_and_messages_are_read_and_nothing_is_held_out(tmp_path: Path) -> None:
    data = labelled(tmp_path, GOOD, BAD)
    found = [(row.prompt, row.columns["completion"], row.columns["label"]) for row in data.load("train")]
    assert found == [("1 + 1?", "2", True), ("1 + 1?", "3", False)]
    assert data.load("test") == []
    assert data.fingerprint() != labelled(tmp_path, GOOD, BAD, limit=2).fingerprint()


def test_the_answers_of_stage_sample_are_labelled_right_or_wrong(tmp_path: Path) -> None:
    answers = [{"text": "2", "right": True}, {"text": " ", "right": False}, {"text": "3", "right": False}]
    unknown = {"prompt": "Who?", "answers": [{"text": "I", "right": None}]}
    rows = labelled(tmp_path, {"prompt": "1 + 1?", "answers": answers}, unknown).load("train")
    assert [(row.columns["completion"], row.columns["label"]) for row in rows] == [("2", True), ("3", False)]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param(
            [GOOD | {"label": 1}, BAD], r"answers\.jsonl, line 1: the column label is 1", id="no truth value"
        ),
        pytest.param([GOOD, {**BAD, "completion": None}], "line 2: .*completion", id="no text"),
        pytest.param([{"prompt": "?", "answers": []}], "has no answer with a label", id="no answers"),
    ],
)
def test_rows_that_teach_nothing_are_refused(rows: list[dict[str, Any]], says: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=says):
        labelled(tmp_path, *rows).load("train")


def test_a_missing_path_names_the_pipeline() -> None:
    with pytest.raises(Refused, match="pipeline=kto_from_rewards"):
        Labelled(kind="labelled", path=None, limit=None).load("train")


def test_a_pair_is_a_good_and_a_bad_row() -> None:
    prompt = PromptSettings(style="plain", system="")
    pair = Problem("1", "1 + 1?", None, {"chosen": "2", "rejected": "3"})
    rows = list(labelled_rows(pair, prompt))
    assert [(row["completion"][0]["content"], row["label"]) for row in rows] == [("2", True), ("3", False)]
