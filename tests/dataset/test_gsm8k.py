import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1exp.dataset.base import SPLITS
from r1exp.dataset.hf import Hf
from r1exp.errors import Refused
from r1exp.files import hash_of

GSM8K = Path(os.environ.get("R1EXP_GSM8K", Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k"))
ROW = {
    "question": "Ada sold 48 clips, then half as many. How many is that?",
    "answer": "48/2 = <<48/2=24>>24.\n48+24 = $<<48+24=72>>72.\n#### 72",
}


PRESET = yaml.safe_load((Path(__file__).parents[2] / "conf" / "dataset" / "gsm8k.yaml").read_text())


def gsm8k(path: Path | str, **changes: Any) -> Hf:
    return Hf.model_validate_json(json.dumps(PRESET | {"path": str(path)} | changes), strict=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, num_rows in (("train", 5), ("test", 3)):
        rows = [ROW | {"question": f"{split} {number}"} for number in range(num_rows)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{split}.jsonl").write_text(text)
    return tmp_path


def test_rows_ids_and_fingerprint_are_those_of_the_class_that_the_preset_replaced(folder: Path) -> None:
    """The key of a finished step contains the fingerprint; both numbers were computed by `r1exp.dataset.gsm8k`."""
    data = gsm8k(folder)
    rows = [problem.to_row([]) for split in SPLITS for problem in data.load(split)]
    assert hash_of(rows) == "729946ac055e0a95"
    assert data.fingerprint() == "f18db5dc7056e6d0"
    assert gsm8k("openai/gsm8k").fingerprint() == "463766e107fbbea6"


def test_a_folder_of_json_lines_is_read(folder: Path) -> None:
    problems = gsm8k(folder).load("train")
    assert [problem.id for problem in problems] == [f"gsm8k-train-000{number}" for number in range(5)]
    assert problems[4].prompt == "train 4"
    assert problems[4].answer == "72"
    assert problems[4].columns == {"solution": "48/2 = 24.\n48+24 = $72."}


def test_a_folder_in_the_layout_of_the_hub_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet  # it ships no types

    (tmp_path / "main").mkdir()
    for split in ("train", "test"):
        file = tmp_path / "main" / f"{split}-00000-of-00001.parquet"
        parquet.write_table(pyarrow.Table.from_pylist([ROW | {"question": f"{split}?"}] * 2), file)
    assert [problem.answer for problem in gsm8k(tmp_path).load("test")] == ["72", "72"]


def test_each_split_has_its_own_limit(folder: Path) -> None:
    data = gsm8k(folder, limit=2, test_limit=1)
    assert [len(data.load("train")), len(data.load("test"))] == [2, 1]


def test_the_fingerprint_depends_on_content_and_settings_but_not_on_the_path(folder: Path) -> None:
    before = gsm8k(folder).fingerprint()
    moved = folder.rename(folder.parent / "moved")
    assert gsm8k(moved).fingerprint() == before
    assert gsm8k(moved, limit=2).fingerprint() != before
    (moved / "test.jsonl").write_text(json.dumps(ROW))
    assert gsm8k(moved).fingerprint() != before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param(
            "./nowhere", "neither a file or folder on this machine nor a hub id", id="no such folder"
        ),
        pytest.param("{folder}/train.jsonl", "has no split 'test'", id="a file"),
        pytest.param("{folder}/empty", "has no data: none of train.jsonl", id="an empty folder"),
    ],
)
def test_a_path_without_data_is_refused(folder: Path, path: str, message: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(Refused, match=message):
        gsm8k(path.format(folder=folder)).load("train")


def test_a_row_without_gold_is_refused_with_its_line(folder: Path) -> None:
    lines = (folder / "train.jsonl").read_text().splitlines()
    lines[2] = json.dumps(ROW | {"answer": "72"})
    (folder / "train.jsonl").write_text("\n".join(lines))
    with pytest.raises(Refused, match=r"train\.jsonl, line 3: column 'answer' has no last line"):
        gsm8k(folder).load("train")


def test_an_unreachable_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub")

    monkeypatch.setattr("datasets.get_dataset_split_names", unreachable)
    with pytest.raises(Refused, match=r"could not be downloaded from the hub.*Couldn't reach"):
        gsm8k("openai/gsm8k").load("train")


@pytest.mark.skipif(not GSM8K.is_dir(), reason="GSM8K is not on this machine (set R1EXP_GSM8K)")
def test_the_real_gsm8k_is_read_completely() -> None:
    data = gsm8k(GSM8K)
    problems = [*data.load("train"), *data.load("test")]
    assert len(problems) == 8792
    assert not [p.id for p in problems if "<<" in p.columns["solution"] or "####" in p.columns["solution"]]
