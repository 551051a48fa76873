"""Reads JSON from a completion, strictly: one value, no repeated keys, no NaN or infinities, of bounded depth."""

import json
import math
import re
from typing import Any, Final, NoReturn

_MAX_CHARACTERS: Final = 200_000
_MAX_DEPTH: Final = 100  # of nested objects and lists
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})([^`]*)")  # a line that opens or closes a code block


def strict_json(text: str) -> Any:
    """Return the JSON value that the whole text is. Raises ValueError."""
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"longer than {_MAX_CHARACTERS} characters")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if _depth(value) > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} levels deep")
    return value


def without_fence(text: str) -> str:
    """Return the content where the whole text is one fenced code block, else the text."""
    text = text.strip()
    blocks, outside = _split(text)
    return blocks[0] if len(blocks) == 1 and not outside else text


def fenced_blocks(text: str) -> list[str]:
    """Return the contents of the fenced code blocks of a text."""
    return _split(text)[0]


def _split(text: str) -> tuple[list[str], str]:
    """Return the contents of the closed code blocks, and the text outside of them; in one pass over the lines."""
    blocks: list[str] = []
    outside: list[str] = []
    mark = ""  # of the block that is open
    inside: list[str] = []
    for line in text[:_MAX_CHARACTERS].split("\n"):
        fence = _FENCE.fullmatch(line)
        if not mark:
            if fence is None:
                outside.append(line)
            else:
                mark, inside = fence[1], [line]
        elif fence is not None and fence[1].startswith(mark) and not fence[2].strip():
            blocks.append("\n".join(inside[1:]).strip())
            mark = ""
        else:
            inside.append(line)
    return blocks, "\n".join([*outside, *(inside if mark else [])]).strip()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is repeated")
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is larger than the largest float")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _depth(value: Any) -> int:
    """Return how deeply objects and lists are nested, counted level by level."""
    depth = 0
    level = [value]
    while level and depth <= _MAX_DEPTH:
        inner = [item for item in level if isinstance(item, dict | list)]
        level = [
            item
            for container in inner
            for item in (container.values() if isinstance(container, dict) else container)
        ]
        depth += bool(inner)
        if not inner:
            break
    return depth
