"""A full disk, and a HOME that is missing or cannot be written, end in a message or in nothing, never in a traceback."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.files import provide_cache, why_not_written
from r1exp.runner.run import Run
from r1exp.step.status import read_status

LINE = [
    "stage=sft",
    "debug=fast",
    "tracking=none",
    "evaluation.before=false",
    "evaluation.after=false",
    "paths.run=run",
]


def full(place: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)


def test_the_message_names_the_space_that_is_left(tmp_path: Path) -> None:
    text = why_not_written(full(str(tmp_path / "a" / "b")), tmp_path)
    assert text.startswith(f"{tmp_path}/a/b: no space left on the disk (")
    assert "MB are free); free some, or write to another disk with paths.runs=DIR" in text
    assert (
        why_not_written(PermissionError(13, "Permission denied"), tmp_path)
        == f"{tmp_path}: Permission denied"
    )


def test_a_disk_that_is_full_before_a_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def fail(*_: Any) -> None:
        raise full()

    monkeypatch.setattr("r1exp.runner.run_directory.create_text", fail)
    assert main(LINE) == 2
    assert "no space left on the disk" in capsys.readouterr().err


def test_a_disk_that_becomes_full_ends_the_step_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def fail(*_: Any) -> None:
        raise full()

    monkeypatch.setattr(Run, "_frozen", fail)
    assert main(LINE) == 3
    assert "no space left on the disk" in capsys.readouterr().err
    status = read_status(tmp_path / "run" / "steps" / "01-sft")
    assert status is not None
    assert status.state == "failed" and "no space left" in (status.reason or "")


def test_a_disk_so_full_that_no_status_can_be_written_is_a_failure_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def fail(*_: Any, **__: Any) -> None:
        raise full()

    monkeypatch.setattr("r1exp.step.status.write_text", fail)
    monkeypatch.setattr("r1exp.report.summary.write_json", fail)
    assert main(LINE) == 3
    assert capsys.readouterr().err.count("no space left on the disk") == 2  # the step, and the report


def test_a_home_that_can_be_written_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    provide_cache()
    assert os.environ["HOME"] == str(tmp_path)
    assert "XDG_CACHE_HOME" not in os.environ


@pytest.mark.parametrize("home", ["/proc", "/nonexistent", None])
def test_caches_move_to_a_temporary_folder_where_home_cannot_be_written(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if home is None:  # as for a user id without a name
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(Path, "home", _no_home)
    else:
        monkeypatch.setenv("HOME", home)
    provide_cache()
    folder = Path(os.environ["XDG_CACHE_HOME"])
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    assert Path(os.environ["HOME"]).is_dir()


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")
