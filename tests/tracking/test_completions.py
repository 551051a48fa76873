"""Which completions are kept, and how they are written."""

import json
from pathlib import Path

import pytest

from r1exp.paths import StepPaths
from r1exp.tracking.completions import CompletionFiles, CompletionSettings, flat_row


def files(folder: Path, per_step: int = 4, max_files: int = 10, max_length: int = 100) -> CompletionFiles:
    return CompletionFiles(
        CompletionSettings(per_step=per_step, max_files=max_files, max_length=max_length), folder
    )


@pytest.mark.parametrize(
    ("every", "last"), [(1, 7), (1, 100), (10, 100), (10, 5003), (1, 1)], ids=lambda value: str(value)
)
def test_the_number_of_files_is_bounded_and_the_last_step_is_among_them(
    every: int, last: int, tmp_path: Path
) -> None:
    logged = [step for step in range(1, last + 1) if step == 1 or step % every == 0 or step == last]
    kept = [step for step in logged if files(tmp_path).is_kept(step, every=every, last=last)]
    assert 1 <= len(kept) <= 10
    assert kept[-1] == last
    assert len(kept) == len(logged) or len(kept) > 5


def test_per_step_0_keeps_nothing(tmp_path: Path) -> None:
    none = files(tmp_path, per_step=0)
    assert not none.is_kept(1, every=1, last=1)
    assert none.write("samples", none.sample([[{"completion": "a"}]])) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param([2, 2, 2, 2], ["0a", "0b", "2a", "2b"], id="whole groups, spread over the batch"),
        pytest.param([6, 6], ["0a", "0b", "0c", "0d"], id="the start of a large group"),
        pytest.param([1] * 8, ["0a", "2a", "4a", "6a"], id="groups of one"),
        pytest.param([1], ["0a"], id="a small batch"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_a_sample_has_whole_groups(sizes: list[int], expected: list[str], tmp_path: Path) -> None:
    groups = [[f"{group}{'abcdef'[item]}" for item in range(size)] for group, size in enumerate(sizes)]
    assert files(tmp_path).sample(groups) == expected


def test_a_file_has_one_readable_row_per_line(tmp_path: Path) -> None:
    row = {"step": 3, "completion": "你好 \ud800\u2028", "rewards": {"a": float("nan"), "b": 1.5, "c": None}}
    written = files(tmp_path).write_step(3, [row, row])
    text = (tmp_path / "completions" / "step-000003.jsonl").read_text(encoding="utf-8")
    assert "你好" in text
    assert [json.loads(line) for line in text.split("\n")[:-1]] == written
    assert written[0] == {
        "step": 3,
        "completion": "你好 ?\u2028",
        "rewards": {"a": None, "b": 1.5, "c": None},
    }
    assert flat_row(written[0])["rewards/b"] == 1.5


def test_the_middle_of_a_long_text_is_left_out(tmp_path: Path) -> None:
    (row,) = files(tmp_path, max_length=10).write("samples", [{"completion": "a" * 500 + "b" * 500}])
    assert row["completion"] == "aaaaa [... 990 characters ...] bbbbb"


def test_files_after_a_checkpoint_are_removed(tmp_path: Path) -> None:
    kept = files(tmp_path)
    for step in (1, 2, 3):
        kept.write_step(step, [{"completion": "4"}])
    kept.forget_after(2)
    assert list(StepPaths(tmp_path).all_completions()) == [1, 2]


def test_a_folder_that_cannot_be_written_is_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "completions").write_text("a file, where the folder would be")
    broken = files(tmp_path)
    for step in (1, 2):
        assert broken.write_step(step, [{"completion": "4"}]) == [{"completion": "4"}]
    assert capsys.readouterr().err.count("no completions are kept") == 1
