"""The folder for the temporary files of a step's processes."""

import subprocess
import tempfile
from pathlib import Path

import pytest

from r1exp.launcher.scratch import own_scratch, remove, scratch


def test_what_processes_leave_is_removed_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch(tmp_path / "01-sft") as environment:
        made = subprocess.run(
            ["mktemp", "-d"], env=environment, check=True, capture_output=True, text=True
        ).stdout
        assert Path(made.strip()).parent == Path(environment["TMPDIR"])
        Path(environment["TMPDIR"], "left by a start that was killed").touch()
        with scratch(tmp_path / "01-sft") as again:
            [kernels] = Path(again["TMPDIR"]).iterdir()
            assert kernels.resolve() == tmp_path / kernels.name  # kept for other processes
    assert [path.name for path in tmp_path.iterdir()] == [kernels.name]


def test_several_nodes_use_their_own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    with scratch(tmp_path / "01-sft") as environment:
        assert environment == {}


def test_what_a_killed_parent_left_can_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch(tmp_path / "01-sft") as environment:
        folder = Path(environment["TMPDIR"])
    folder.mkdir()
    remove(tmp_path / "02-rl")
    assert folder.is_dir()
    remove(tmp_path / "01-sft")
    assert not folder.exists()


def test_this_process_can_use_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with own_scratch(tmp_path / "run"):
        made = Path(tempfile.mkdtemp())
        assert made.parent != tmp_path
    assert not made.exists()
    assert tempfile.gettempdir() == str(tmp_path)
