"""Atomic files and folders, and content hashes."""

from pathlib import Path

import pytest

from r1exp.files import hash_of, hash_of_folder, link_tree, read_json, write_json, write_text


def test_a_file_is_replaced_and_no_temporary_file_is_left(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "a.txt", "one")
    write_text(tmp_path / "deep" / "a.txt", "two")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.txt"]
    assert (tmp_path / "deep" / "a.txt").read_text() == "two"


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert read_json(tmp_path / "a.json") == {"x": 1}


def test_a_linked_tree_shares_its_files_and_lacks_the_names_left_out(tmp_path: Path) -> None:
    write_text(tmp_path / "from" / "keep" / "a", "1")
    write_text(tmp_path / "from" / "checkpoints" / "b", "2")
    link_tree(tmp_path / "from", tmp_path / "to", without=("checkpoints",))
    assert sorted(str(p.relative_to(tmp_path / "to")) for p in (tmp_path / "to").rglob("*")) == [
        "keep",
        "keep/a",
    ]
    assert (tmp_path / "to" / "keep" / "a").stat().st_ino == (tmp_path / "from" / "keep" / "a").stat().st_ino


def test_a_failed_copy_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        link_tree(tmp_path / "nowhere", tmp_path / "to")
    assert list(tmp_path.iterdir()) == []


def test_hashes_depend_on_content_and_not_on_order(tmp_path: Path) -> None:
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1}) != hash_of({"a": 1, "b": 3})
    write_text(tmp_path / "one" / "x", "1")
    write_text(tmp_path / "two" / "x", "1")
    assert hash_of_folder(tmp_path / "one") == hash_of_folder(tmp_path / "two")
    write_text(tmp_path / "two" / "x", "2")
    assert hash_of_folder(tmp_path / "one") != hash_of_folder(tmp_path / "two")
