"""docs/architecture.md states what the code does: its picture of the rooms, and the places that it names."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest
from hydra.core.config_loader import ConfigLoader

from r1exp.__main__ import main
from r1exp.errors import ExitCode
from r1exp.launcher.base import Launch
from r1exp.paths import StepPaths
from r1exp.step.status import Status

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "r1exp"
TEXT = PAGE.read_text(encoding="utf-8")
PLACE = re.compile(r"`([\w/]+\.py):([\w.]+)`")  # `config/compose.py:compose_steps`
FILE = re.compile(r"`([\w./-]+\.(?:py|yaml|json))`")
LAST_OF_PARENT = ("stage/step.py", "Step.write")  # the hop after which the workers take over


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


def _names_in(path: Path) -> set[str]:
    """Return the functions, classes, methods and constants of a file, as `name` or `Class.name`."""
    names: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(f"{prefix}{node.name}")
            if isinstance(node, ast.ClassDef):
                collect(node.body, f"{prefix}{node.name}.")
            if isinstance(node, ast.Assign):
                names.update(f"{prefix}{ast.unparse(target)}" for target in node.targets)

    collect(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return names


@pytest.mark.parametrize(("file", "name"), sorted(set(PLACE.findall(TEXT))))
def test_a_place_that_the_page_names_exists(file: str, name: str) -> None:
    assert (PACKAGE / file).is_file()
    assert name in _names_in(PACKAGE / file)


@pytest.mark.parametrize(
    "file", sorted({file for file in FILE.findall(TEXT) if "NAME" not in file and "/" in file})
)
def test_a_file_that_the_page_names_exists(file: str) -> None:
    assert (PACKAGE / file).is_file() or (ROOT / file).is_file()


@pytest.fixture
def compositions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Counter[str]:
    """Count Hydra's compositions; runs end before their first step."""
    counts: Counter[str] = Counter()
    (loader,) = ConfigLoader.__subclasses__()
    compose: Any = loader.load_configuration

    def counted(*args: Any, **kwargs: Any) -> Any:
        counts["all"] += 1
        return compose(*args, **kwargs)

    monkeypatch.setattr(loader, "load_configuration", counted)
    monkeypatch.setattr("r1exp.runner.sweep.perform", lambda run: (ExitCode.DONE, {}, 1))
    monkeypatch.setattr("r1exp.runner.members.perform", lambda run: (ExitCode.DONE, {}, 1))
    monkeypatch.chdir(tmp_path)
    return counts


@pytest.mark.parametrize(
    ("command", "number"),
    [
        pytest.param("plan", 2, id="plan of a pipeline"),
        pytest.param("run", 2, id="run of a pipeline"),
        pytest.param("plan stage=rl", 1, id="plan of one stage"),
        pytest.param("run stage=rl", 1, id="run of one stage"),
        pytest.param("plan -m seed=1,2,3,4", 9, id="plan of a sweep: 1, and 2 for each member"),
        pytest.param("run -m seed=1,2,3,4", 9, id="run of a sweep: 1, and 2 for each member"),
    ],
)
def test_a_command_takes_as_many_compositions_as_the_page_says(
    command: str, number: int, compositions: Counter[str]
) -> None:
    assert main(command.split()) == ExitCode.DONE
    assert compositions["all"] == number
    typed = f"r1exp {command.removeprefix('run').strip()}".strip()
    (row,) = (
        line
        for line in TEXT.splitlines()
        if re.match(rf"\| `{re.escape(typed)}`(?: \(the quickstart\))? \|", line)
    )
    assert row.endswith(f"| {number} |")


def _hops() -> list[tuple[str, str]]:
    section = TEXT.partition("<!-- begin hops -->")[2].partition("<!-- end hops -->")[0]
    return [PLACE.findall(line)[0] for line in section.splitlines() if re.match(r"\d+\. ", line)]


def test_an_override_takes_the_hops_that_the_page_lists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The functions are called in this order, each with `beta` among its arguments, until the workers take over."""
    hops = _hops()
    expected = hops[: hops.index(LAST_OF_PARENT) + 1]
    called: list[tuple[str, str]] = []

    @cache
    def place_of(code: CodeType) -> tuple[str, str] | None:
        place = (code.co_filename.removeprefix(f"{PACKAGE}/"), code.co_qualname)
        return place if place in expected else None

    def observe(frame: FrameType, event: str, argument: object) -> None:
        place = place_of(frame.f_code) if event == "call" else None
        if place is not None and any("0.0123" in repr(value) for value in frame.f_locals.values()):
            called.append(place)

    def finish(launch: Launch, folder: Path, *others: object) -> int:
        StepPaths(folder).artifact.mkdir()
        Status(state="done").write(folder)
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("r1exp.runner.run.run_process", finish)
    sys.setprofile(observe)
    try:
        code = main(
            [
                "beta=0.0123",
                "debug=fast",
                "tracking=none",
                "evaluation.before=false",
                "evaluation.after=false",
            ]
        )
    finally:
        sys.setprofile(None)
    assert code == ExitCode.DONE
    rest = iter(called)
    missing = [hop for hop in expected if hop not in rest]
    assert not missing, "docs/architecture.md lists a hop that the value does not take here; correct the list"


def test_the_table_counts_the_hops_of_the_list() -> None:
    (row,) = (line for line in TEXT.splitlines() if line.startswith("| hops from `argv`"))
    assert row.endswith(f"| {len(_hops())} |")
