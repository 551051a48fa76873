"""Resolves references to the artifacts of earlier steps, `artifact:NAME`, in any setting of a step.

    set: {rewards.preference.model: "artifact:reward_model"}

For the step's key, a reference is replaced by the key of the step it names; when the step starts, it is replaced by
the folder of that step's artifact. `artifact:NAME/file` names a file in that folder.
"""

from collections.abc import Callable
from typing import Any

from r1exp.paths import ARTIFACT

PREFIX = ARTIFACT


def resolved(value: Any, find: Callable[[str], str]) -> Any:
    """Return the nested `value` with every `artifact:NAME` replaced by `find(NAME)`."""
    if isinstance(value, dict):
        return {key: resolved(below, find) for key, below in value.items()}
    if isinstance(value, list):
        return [resolved(below, find) for below in value]
    if isinstance(value, str) and value.startswith(PREFIX):
        name, slash, rest = value.removeprefix(PREFIX).partition("/")
        return find(name) + slash + rest
    return value


def names_in(value: Any) -> frozenset[str]:
    """Return the names of the steps whose artifacts the nested `value` refers to."""
    names: list[str] = []

    def collect(name: str) -> str:
        names.append(name)
        return name

    resolved(value, collect)
    return frozenset(names)
