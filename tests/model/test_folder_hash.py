"""Tests of remembered hashes: read once, and read again whenever a file changed."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.files import hash_of_folder
from r1exp.model import folder_hash
from r1exp.model.folder_hash import remembered_hash


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose files are old enough to be remembered, with a cache of its own."""
    monkeypatch.setattr(folder_hash, "_SMALLEST", 100)
    monkeypatch.setattr(folder_hash, "_SETTLED", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"w" * 1000)
    (folder / "sub" / "config.json").write_text("{}")
    return folder


@pytest.fixture
def num_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that returns how often a folder was read."""
    calls: list[Path] = []

    def counted(folder: Path) -> str:
        calls.append(folder)
        return hash_of_folder(folder)

    monkeypatch.setattr(folder_hash, "hash_of_folder", counted)
    return lambda: len(calls)


def test_an_unchanged_folder_is_read_once(weights: Path, num_read: Callable[[], int]) -> None:
    found = {remembered_hash(weights) for _ in range(5)}
    assert (found, num_read()) == ({hash_of_folder(weights)}, 1)


def replace_in_place(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"v" * 1000)


def replace_with_the_old_times(folder: Path) -> None:
    file = folder / "model.safetensors"
    old = file.stat()
    file.write_bytes(b"v" * 1000)
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))


def replace_the_file(folder: Path) -> None:
    other = folder / "other"
    other.write_bytes(b"v" * 1000)
    other.replace(folder / "model.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        replace_in_place,
        replace_with_the_old_times,
        replace_the_file,
        pytest.param(lambda folder: (folder / "added").write_text("x"), id="add_a_file"),
        pytest.param(lambda folder: (folder / "sub" / "config.json").unlink(), id="remove_a_file"),
        pytest.param(
            lambda folder: (folder / "model.safetensors").rename(folder / "renamed"), id="rename_a_file"
        ),
    ],
)
def test_a_changed_folder_is_read_again(change: Callable[[Path], None], weights: Path) -> None:
    before = remembered_hash(weights)
    change(weights)
    assert remembered_hash(weights) == hash_of_folder(weights) != before


def test_a_folder_that_changed_a_moment_ago_is_not_remembered(
    weights: Path, num_read: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_hash, "_SETTLED", 60.0)
    assert remembered_hash(weights) == remembered_hash(weights)
    assert num_read() == 2


@pytest.mark.parametrize("content", ["", "[]", '{"files": 3}', "{"], ids=["empty", "list", "other", "half"])
def test_a_note_that_cannot_be_read_is_written_again(content: str, weights: Path) -> None:
    found = remembered_hash(weights)
    (note,) = (weights.parent / "cache" / "r1exp" / "folder-hashes").iterdir()
    note.write_text(content)
    assert remembered_hash(weights) == found
    assert found in note.read_text()


def test_without_a_place_for_notes_the_folder_is_read(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (weights.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(weights.parent / "file"))
    assert remembered_hash(weights) == hash_of_folder(weights)


def test_threads_that_hash_the_same_folder_agree(weights: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(remembered_hash(weights))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [hash_of_folder(weights)] * 8
