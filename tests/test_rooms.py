"""The order of the packages below r1exp/: each imports only from those before it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "r1exp"

ORDER = [
    "errors", "assets", "plugins", "settings", "registry", "records", "files", "paths", "distributed", "terminal",
    "http_client",
    "prompt", "dataset", "statistics",
    "sandbox", "rewards",
    "model", "tracking", "health",
    "launcher", "rollout", "serving",
    "algorithm", "evaluation",
    "step", "stage",
    "config", "plan", "report", "runner",
    "doctor", "verbs",
    "worker", "__main__",
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
        ("vllm", {"rollout/vllm.py"}),
        ("math_verify", {"rewards/math_verify.py"}),
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
