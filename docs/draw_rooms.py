"""Draws which room of r1exp/ imports which, by reading the source files; r1exp itself is not imported.

    python docs/draw_rooms.py           # print the flowchart and the table
    python docs/draw_rooms.py --write   # replace the part of docs/architecture.md between the two markers

A room is a folder or a file of r1exp/. The order of the rooms is `ORDER` of tests/test_rooms.py. The description of a
room is the first sentence of its docstring. Imports inside functions and for type checkers count.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- begin: python docs/draw_rooms.py --write -->"
END = "<!-- end -->"


def room_order(test_file: Path) -> list[str]:
    """Return the list `ORDER` of a test file, which is not imported."""
    for node in ast.parse(test_file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["ORDER"]:
            return [str(room) for room in ast.literal_eval(node.value)]
    raise SystemExit(f"{test_file} has no list ORDER of the rooms")


def imports_of_rooms(package: Path, order: Sequence[str]) -> dict[str, set[str]]:
    """Return the rooms that each room imports.

    Args:
        package: The folder r1exp/.
        order: The rooms.
    """
    found: dict[str, set[str]] = {room: set() for room in order}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).with_suffix("").parts[0]
        if room == "__init__":
            continue
        if room not in found:
            raise SystemExit(f"{room} is no known room: give it its place in ORDER of tests/test_rooms.py")
        names = _imported_names(ast.parse(path.read_text(encoding="utf-8")), package.name)
        found[room] |= {name for name in names if name in found and name != room}
    return found


def _imported_names(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the part after `package.` of every module that is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == package else [module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith(f"{package}."))


def reduced(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports without those that follow from others: the transitive reduction of an acyclic graph."""
    reachable: dict[str, set[str]] = {}

    def reach(room: str) -> set[str]:
        if room not in reachable:
            reachable[room] = imports[room].union(*(reach(other) for other in imports[room]))
        return reachable[room]

    return {
        room: {other for other in direct if not any(other in reach(between) for between in direct - {other})}
        for room, direct in imports.items()
    }


def description_of(package: Path, room: str) -> str:
    """Return the first sentence of a room's docstring, without its full stop."""
    folder = package / room / "__init__.py"
    path = folder if folder.exists() else package / f"{room}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text:
        raise SystemExit(f"{path} has no docstring: write one sentence that says what the room does")
    first = re.split(r"\.\s", text.split("\n\n")[0].replace("\n", " "), maxsplit=1)[0]
    return first.removesuffix(".").replace("|", "\\|")


def picture(package: Path, order: Sequence[str]) -> str:
    """Return the flowchart and the table as Markdown."""
    imports = imports_of_rooms(package, order)
    arrows = reduced(imports)

    def in_order(rooms: set[str]) -> list[str]:
        return [room for room in order if room in rooms]

    lines = ["```mermaid", "flowchart TD"]
    for room in reversed(order):
        others = in_order(arrows[room])
        lines.append(f"    {room} --> {' & '.join(others)}" if others else f"    {room}")
    lines += ["```", "", "| room | what it does | imports |", "|---|---|---|"]
    for room in order:
        listed = ", ".join(in_order(imports[room])) or "-"
        lines.append(f"| `{room}` | {description_of(package, room)} | {listed} |")
    return "\n".join(lines) + "\n"


def with_picture(page: str, drawn: str) -> str:
    """Return the text of a page with `drawn` between the two markers.

    Raises:
        SystemExit: the page does not have each marker once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise SystemExit(f"the page must have each of the lines {BEGIN} and {END} once")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{drawn}\n{END}{rest.partition(END)[2]}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the picture, or write it into docs/architecture.md."""
    parser = argparse.ArgumentParser(description="Draw which room of r1exp/ imports which.")
    parser.add_argument("--write", action="store_true", help="replace the picture in docs/architecture.md")
    given = parser.parse_args(arguments)
    drawn = picture(ROOT / "r1exp", room_order(ROOT / "tests" / "test_rooms.py"))
    if given.write:
        PAGE.write_text(with_picture(PAGE.read_text(encoding="utf-8"), drawn), encoding="utf-8")
    else:
        sys.stdout.write(drawn)


if __name__ == "__main__":
    main()
