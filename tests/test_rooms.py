"""The order of the packages below r1exp/: each imports only from those before it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from r1exp.algorithm.menu import ALGORITHMS
from r1exp.launcher.menu import LAUNCHERS
from r1exp.registry import Registry
from r1exp.rollout.menu import ROLLOUTS
from r1exp.settings import Settings
from r1exp.stage.menu import STAGES
from r1exp.tracking.menu import TRACKERS

PACKAGE = Path(__file__).parents[1] / "r1exp"

ORDER = [
    "errors", "assets", "plugins", "settings", "registry", "records", "files", "paths", "distributed", "terminal",
    "addresses", "circuit_breaker", "http_client", "hub",
    "prompt", "dataset", "statistics",
    "judgement",
    "sandbox", "rewards", "filtering",
    "model", "tracking", "health",
    "launcher", "rollout", "serving",
    "algorithm", "evaluation",
    "step", "stage",
    "config", "plan", "export", "report", "runner",
    "doctor", "verbs", "api",
    "worker", "worker_server", "__main__",
]  # fmt: skip


def _room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _imported_rooms(path: Path) -> set[str]:
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}: relative import; write r1exp.room")
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom) and node.module == "r1exp":
            names = [f"r1exp.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("r1exp.")}
    return rooms - {"__version__"}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_package_imports_only_from_those_before_it(path: Path) -> None:
    room = _room_of(path)
    assert room in ORDER, f"{room} is not in ORDER: add it there"
    later = {other for other in _imported_rooms(path) if ORDER.index(other) > ORDER.index(room)}
    assert not later, f"{room} imports {sorted(later)}, which come after it"


@pytest.mark.parametrize(
    ("library", "only"),
    [
        ("wandb", {"tracking/wandb.py"}),
        ("trackio", {"tracking/trackio.py"}),
        ("mlflow", {"tracking/mlflow.py"}),
        ("tensorboard", {"tracking/tensorboard.py"}),
        ("vllm", {"rollout/vllm.py"}),
        ("math_verify", {"judgement/math_verify.py"}),
    ],
)
def test_a_library_with_one_entry_is_imported_in_one_file(library: str, only: set[str]) -> None:
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == library for name in names):
                found.add(str(path.relative_to(PACKAGE)))
    assert found <= only


ASKED_OF = {  # config group -> the rooms whose files may ask for the class of a value
    "algorithm": {"algorithm"},
    "stage": {"stage"},
    "launcher": {"launcher"},
    "rollout": {"rollout", "serving"},
    "tracking": {"tracking"},
}


def _classes(group: str) -> set[str]:
    """Return the names of the settings classes of a config group, and of their bases."""
    registries: dict[str, Registry[Any]] = {
        "algorithm": ALGORITHMS,
        "stage": STAGES,
        "launcher": LAUNCHERS,
        "rollout": ROLLOUTS,
        "tracking": TRACKERS,
    }
    registry = registries[group]
    found = {
        base for kind in registry.kinds() for base in registry.find(kind).__mro__ if base is not Settings
    }
    return {base.__name__ for base in found if issubclass(base, registry.base)}


@pytest.mark.parametrize("group", ASKED_OF)
def test_nobody_outside_its_room_asks_for_the_type_of_a(group: str) -> None:
    names = _classes(group)
    asked = []
    for path in FILES:
        if _room_of(path) in ASKED_OF[group]:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
                types = {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
                types |= {part.attr for part in ast.walk(node.args[1]) if isinstance(part, ast.Attribute)}
                asked += [f"{path.relative_to(PACKAGE)}:{node.lineno}"] if types & names else []
    assert asked == []


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in FILES}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                found |= names & modules.keys()
        graph[module] = found - {module}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
