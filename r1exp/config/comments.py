"""Reads the comments that explain settings: those beside the fields of settings classes, and those in YAML files.

A setting is explained where it is declared, in the comment on its line or on the lines above it. `r1exp help` shows
that text, so that there is no second one to keep in step with it.
"""

import ast
import inspect
import io
import re
import tokenize
from functools import cache
from pathlib import Path

from pydantic import BaseModel

_CONTINUED = ("Source:", "r1exp ")  # what ends the purpose in the head of a YAML file


def comment_of(model: type[BaseModel], name: str) -> str:
    """Return the comment beside the field `name`, from the class that declares it; empty if there is none."""
    for ancestor in model.__mro__:
        if name in inspect.get_annotations(ancestor):
            path = inspect.getsourcefile(ancestor)
            found = "" if path is None else _comments(path).get((ancestor.__qualname__, name), "")
            if found:
                return found
    return ""


def purpose_of(model: type[BaseModel]) -> str:
    """Return the first sentence of a class's docstring."""
    return first_sentence(inspect.getdoc(model) or "")


def first_sentence(text: str) -> str:
    """Return the first sentence of a text, on one line."""
    flat = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) (?=[A-Z])", flat)[0]


def yaml_purpose(text: str) -> str:
    """Return the sentences that open a YAML file, before its source and its command."""
    lines: list[str] = []
    for line in text.splitlines():
        stripped = line.removeprefix("#").strip()
        if not line.startswith("#") or stripped.startswith(_CONTINUED):
            break
        if not stripped.startswith("@package"):
            lines.append(stripped)
    return " ".join(lines)


def yaml_comments(text: str) -> dict[str, str]:
    """Return the comments of a YAML file: dotted key -> comment on its line."""
    found: dict[str, str] = {}
    open_keys: list[tuple[int, str]] = []  # (indentation, key) of the mappings around the line
    for line in text.splitlines():
        match = re.match(r"^( *)([\w./-]+):(.*)$", line)
        if match is None:
            continue
        indent = len(match[1])
        open_keys = [(width, key) for width, key in open_keys if width < indent]
        dotted = ".".join([*(key for _, key in open_keys), match[2]])
        open_keys.append((indent, match[2]))
        comment = re.search(r"\s#\s*(.*)$", match[3])
        if comment is not None:
            found[dotted] = comment[1]
    return found


@cache
def _comments(path: str) -> dict[tuple[str, str], str]:
    """Return the comments beside the annotated fields of a module's classes: (class, field) -> comment."""
    text = Path(path).read_text(encoding="utf-8")
    comments: dict[int, str] = {}  # line -> comment
    alone: set[int] = set()  # lines that hold nothing but a comment
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("# noqa", "# type:", "# fmt:")):
            comments[token.start[0]] = token.string.removeprefix("#").strip()
            if not token.line[: token.start[1]].strip():
                alone.add(token.start[0])
    found: dict[tuple[str, str], str] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    own = [comments[line] for line in _lines(field) if line in comments]
                    above = _above(field.lineno - 1, comments, alone)
                    found[node.name, field.target.id] = " ".join(own) or above
    return found


def _lines(field: ast.AnnAssign) -> range:
    return range(field.lineno, (field.end_lineno or field.lineno) + 1)


def _above(line: int, comments: dict[int, str], alone: set[int]) -> str:
    """Return the comment whose last line is `line`."""
    texts: list[str] = []
    while line in alone:
        texts.insert(0, comments[line])
        line -= 1
    return " ".join(texts)
