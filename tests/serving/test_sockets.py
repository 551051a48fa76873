"""The folder for the sockets of a vLLM server: private, short, and empty at each start."""

import stat
import tempfile
from pathlib import Path

import pytest

from r1exp.serving import sockets


def test_only_its_user_can_enter_the_folder_and_a_second_start_finds_it_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    step = tmp_path / "a very long name of a run" / "01-sample"
    folder = sockets.make(step)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "32ce3e35-9d22-4f0c-a620-51f9fd160cae").touch()
    assert sockets.make(step) == folder
    assert list(folder.iterdir()) == []
    sockets.remove(step)
    assert list(tmp_path.iterdir()) == []


def test_the_path_of_a_socket_is_short_enough(tmp_path: Path) -> None:
    folder = sockets.folder_of(tmp_path / ("x" * 200))
    assert len(str(Path("/tmp") / folder.name / ("u" * 36))) <= 107
