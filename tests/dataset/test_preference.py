import json
from pathlib import Path
from typing import Any

import pyarrow  # it ships no types
import pytest
from pyarrow import parquet

from r1exp.dataset.preference import Preference
from r1exp.errors import Refused


def preference(path: Path | None, **changes: Any) -> Preference:
    values: dict[str, Any] = {"kind": "preference", "path": path and str(path), "test_path": None}
    return Preference.model_validate(values | {"test_share": 0.0, "limit": None} | changes)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


OTHER = {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}
PLAIN = {"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}
CHAT = {
    "prompt": [{"role": "system", "content": "Be brief."}, user("1 + 1?")],
    "chosen": [assistant("2")],
    "rejected": [assistant("3")],
}


@pytest.mark.parametrize("row", [pytest.param(PLAIN, id="plain"), pytest.param(CHAT, id="conversational")])
def test_both_forms_give_the_same_pair(row: dict[str, Any], tmp_path: Path) -> None:
    [pair] = preference(write(tmp_path / "pairs.jsonl", row)).load("train")
    assert (pair.prompt, pair.answer, pair.columns) == ("1 + 1?", None, {"chosen": "2", "rejected": "3"})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param({**PLAIN, "rejected": "2"}, "the same text", id="equal answers"),
        pytest.param({"prompt": "?", "chosen": "2"}, "no column 'rejected'", id="incomplete pair"),
        pytest.param(
            {**CHAT, "prompt": [user("a"), assistant("b"), user("c")]}, "3 turns", id="several turns"
        ),
        pytest.param({**CHAT, "chosen": [user("2")]}, "one message of the assistant", id="wrong role"),
        pytest.param({**PLAIN, "chosen": " "}, "blank", id="an empty answer"),
    ],
)
def test_a_row_that_is_not_a_pair_is_refused_with_its_line(
    row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    data = preference(write(tmp_path / "pairs.jsonl", PLAIN, row))
    with pytest.raises(Refused, match=f"line 2.*{reason}"):
        data.load("train")


def test_held_out_pairs_share_no_prompt_with_the_others(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n % 20}?", "chosen": str(n), "rejected": "no"} for n in range(40)]
    data = preference(write(tmp_path / "pairs.jsonl", *rows), test_share=0.25)
    train, test = data.load("train"), data.load("test")
    assert (len(train), len(test)) == (30, 10)
    assert not {pair.prompt for pair in train} & {pair.prompt for pair in test}
    assert len({pair.id for pair in [*train, *test]}) == 40


def test_pairs_are_read_from_the_other_formats_too(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.Table.from_pylist([PLAIN, OTHER]), tmp_path / "pairs.parquet")
    assert [pair.columns["chosen"] for pair in preference(tmp_path / "pairs.parquet").load("train")] == [
        "2",
        "4",
    ]


def test_without_a_file_the_refusal_names_the_pipeline_that_makes_pairs() -> None:
    with pytest.raises(Refused, match="pipeline=dpo_from_rewards"):
        preference(None).load("train")
