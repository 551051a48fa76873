"""Resolves references to the artifacts of earlier steps: `artifact:NAME`, anywhere among a step's settings.

    set: {rewards.preference.model: "artifact:reward_model"}

In a step's key a reference counts as the key of the step it names; when the step starts, it is replaced by the
folder of that step's artifact. `artifact:NAME/file` names a file in it.
"""

from collections.abc import Callable
from typing import Any

from r1exp.stage.base import ARTIFACT

PREFIX = ARTIFACT


def resolved(value: Any, find: Callable[[str], str]) -> Any:
    """Return plain, nested `value` with `find(NAME)` in the place of every `artifact:NAME`."""
    if isinstance(value, dict):
        return {key: resolved(below, find) for key, below in value.items()}
    if isinstance(value, list):
        return [resolved(below, find) for below in value]
    if isinstance(value, str) and value.startswith(PREFIX):
        name, slash, rest = value.removeprefix(PREFIX).partition("/")
        return find(name) + slash + rest
    return value


def names_in(value: Any) -> frozenset[str]:
    """Return the steps whose artifacts plain, nested `value` names."""
    names: list[str] = []

    def note(name: str) -> str:
        names.append(name)
        return name

    resolved(value, note)
    return frozenset(names)
