"""docs/architecture.md states what the code does: its picture of the rooms, and the places that it names."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "r1exp"


def _draw_rooms() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_rooms", ROOT / "docs" / "draw_rooms.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


draw_rooms = _draw_rooms()


def test_the_picture_of_the_rooms_is_that_of_the_imports() -> None:
    order = draw_rooms.room_order(ROOT / "tests" / "test_rooms.py")
    page = PAGE.read_text(encoding="utf-8")
    drawn = draw_rooms.with_picture(page, draw_rooms.picture(PACKAGE, order))
    assert page == drawn, "docs/architecture.md is out of date; type: python docs/draw_rooms.py --write"


def test_the_rooms_are_drawn_without_any_installed_package(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "docs" / "draw_rooms.py")],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout in PAGE.read_text(encoding="utf-8")


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    imports = {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a", "c"}}
    assert draw_rooms.reduced(imports) == {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"c"}}


def test_imports_in_functions_and_for_type_checkers_count(tmp_path: Path) -> None:
    package = tmp_path / "r1exp"
    (package / "stage").mkdir(parents=True)
    (package / "__init__.py").write_text("from r1exp.stage import work\n")
    (package / "errors.py").write_text('"""Errors. Torch-free."""\n')
    (package / "files.py").write_text("if TYPE_CHECKING:\n    import r1exp.errors\n")
    (package / "stage" / "work.py").write_text(
        "def work():\n    from r1exp import files\n    import r1exp_more\n"
    )
    order = ["errors", "files", "stage"]
    assert draw_rooms.imports_of_rooms(package, order) == {
        "errors": set(),
        "files": {"errors"},
        "stage": {"files"},
    }
    assert draw_rooms.description_of(package, "errors") == "Errors"


def test_a_room_without_a_place_in_the_order_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cellar.py").write_text("")
    with pytest.raises(SystemExit, match="cellar is no known room"):
        draw_rooms.imports_of_rooms(tmp_path, ["errors"])


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(SystemExit, match="once"):
        draw_rooms.with_picture("# Architecture\n", "picture")


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.glob("*/__init__.py")), ids=lambda path: str(path.parent.name)
)
def test_the_docstring_of_a_room_is_one_sentence(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text is not None
    assert text.endswith(".") and ". " not in text and "?" not in text and "\n" not in text
