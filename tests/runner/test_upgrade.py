"""What version 0.1.0 (commit 9630a96) left is refused in one sentence, or continued; it is never mixed with ours.

version_0_1_0/ holds the small files of a run that was interrupted after three optimizer steps, of a sweep of two members and of
their store, made by that commit.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.errors import Refused
from r1exp.files import hash_of_folder, read_json
from r1exp.runner.store import StepStore, is_leased
from r1exp.stage.step import Step
from r1exp.step.checkpoints import last_checkpoint, mark_of, pass_over_damaged
from r1exp.step.status import read_status

RECORDED = Path(__file__).with_name("version_0_1_0")


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of what the earlier version left, in the current folder."""
    shutil.copytree(RECORDED, tmp_path / "left")
    monkeypatch.chdir(tmp_path / "left")
    return tmp_path / "left"


def test_a_run_of_the_earlier_version_is_refused_with_both_versions(
    left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hash_of_folder(left)
    assert main(read_json(left / "run" / "manifest.json")["overrides"]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "run was begun by another version (r1exp 0.1.0 of commit 9630a96 there and " in message
    assert "finish it with that version, or begin again with another paths.run" in message
    shutil.rmtree(left / "store" / "models", ignore_errors=True)
    assert hash_of_folder(left) == before


@pytest.mark.parametrize("verb", ["status", "retry", "report"])
def test_a_sweep_of_the_earlier_version_is_refused_in_one_sentence(
    left: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hash_of_folder(left)
    assert main(["sweep", verb, "sweep"]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "not written by this version of r1exp" in message or "by an earlier version of r1exp" in message
    assert hash_of_folder(left) == before


def test_a_checkpoint_of_the_earlier_version_is_neither_damaged_nor_continued(
    left: Path, frozen: Callable[..., Step]
) -> None:
    step = left / "run" / "steps" / "01-sft"
    assert pass_over_damaged(step) == []
    checkpoint = last_checkpoint(step)
    assert checkpoint is not None
    with pytest.raises(
        Refused, match="was not written by this version of r1exp; to start again, type: rm -r"
    ):
        mark_of(checkpoint, frozen("stage=sft", "tracking=none"))


def test_the_status_and_the_store_of_the_earlier_version_can_be_read(left: Path) -> None:
    status = read_status(left / "run" / "steps" / "01-sft")
    assert status is not None and status.state == "interrupted"
    done = read_status(left / "store" / "steps" / "7873712d86b784cc")
    assert done is not None and done.state == "done"
    assert StepStore(left / "store").find_other("a-key-of-this-version") is None
    assert not is_leased(left / "store", "7873712d86b784cc")
