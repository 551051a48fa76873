"""Runs tests that call functions of a program in another sandbox. Exit code 0: all passed, 1: not, 3: broken tests.

The files are tests.py, setup.py (what the tests import or define first, perhaps empty), and entry.txt (the
function that `check(candidate)` is called with; empty: the tests are plain asserts). Requests go to standard output and
answers come from standard input, as in serve.py. An answer is data: containers, numbers and texts, or
the number of an object that stays in the other process. Such an object is equal to itself only, so that a
program cannot decide by its own `__eq__` what is equal. Names of Python and of its standard library are always the real ones.
"""

import ast
import builtins
import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LONGEST_ANSWER = 1 << 24  # bytes
answers = os.fdopen(os.dup(0), "rb")
requests = os.dup(1)


class Remote:
    """A function or another object of the program."""

    __hash__ = object.__hash__

    def __init__(self, **where: Any) -> None:
        self._where = where  # name or object

    def __call__(self, *args: Any, **named: Any) -> Any:
        pairs = [[key, encode(item)] for key, item in named.items()]
        return self._ask(do="call", args=encode(list(args)), named=pairs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._ask(do="attribute", attribute=name)

    def __getitem__(self, key: Any) -> Any:
        return self._ask(do="item", key=encode(key))

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._ask(do="list")))

    def __len__(self) -> int:
        return int(self._ask(do="length"))

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return str(self._ask(do="text"))

    def _ask(self, **request: Any) -> Any:
        data = json.dumps(request | self._where).encode() + b"\n"
        while data:
            data = data[os.write(requests, data) :]
        line = answers.readline(LONGEST_ANSWER)
        if not line.endswith(b"\n"):
            raise RuntimeError("the program has ended, or its answer is too long")
        reply = json.loads(line)
        if "error" in reply:
            kind: Any = getattr(builtins, str(reply["error"]), None)
            is_error = isinstance(kind, type) and issubclass(kind, Exception)
            raise (kind if is_error else RuntimeError)(str(reply.get("text")))
        return decode(reply["value"])


def encode(value: Any) -> Any:
    """Return a value as JSON, as serve.py does."""
    if isinstance(value, Remote):
        return value._where
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [encode(item) for item in value]
    for tag, kind in (("tuple", tuple), ("set", set), ("frozenset", frozenset)):
        if isinstance(value, kind):
            return {tag: [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    return encode(list(value))  # ranges, generators, iterators; a TypeError otherwise


def decode(data: Any) -> Any:
    """Return the value that serve.py encoded."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    ((tag, inside),) = data.items()
    if tag == "object":
        return Remote(object=int(inside))
    if tag == "dict":
        return {decode(key): decode(item) for key, item in inside}
    if tag == "bytes":
        return bytes.fromhex(inside)
    if tag == "complex":
        return complex(*inside)
    return {"tuple": tuple, "set": set, "frozenset": frozenset}[tag](decode(item) for item in inside)


def names_of(tree: ast.Module) -> set[str]:
    """Return the names that tests read."""
    return {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def main() -> None:
    here = Path(__file__).parent
    os.dup2(2, 1)  # what the tests print is no request
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    space: dict[str, Any] = {"__name__": "tests"}
    try:
        tests, entry = (here / "tests.py").read_text(encoding="utf-8"), (here / "entry.txt").read_text()
        tree = ast.parse(tests)
        exec(compile((here / "setup.py").read_text(encoding="utf-8"), "setup.py", "exec"), space)
    except Exception:  # noqa: BLE001 whatever it is, it is not the program's fault
        traceback.print_exc()
        os._exit(3)
    for name in names_of(tree) - space.keys() - set(dir(builtins)):
        if name in sys.stdlib_module_names:
            space[name] = importlib.import_module(name)
        elif not entry:
            space[name] = Remote(name=name)
    try:
        exec(compile(tree, "tests.py", "exec"), space)
        if entry:
            space["check"](Remote(name=entry))
    except BaseException:  # noqa: BLE001 the program did not pass, for whatever reason
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


main()
