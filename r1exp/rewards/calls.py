"""Reads function calls from a completion, in the notations that models write them in.

    hermes   <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>, one pair of tags for each call
    llama    <|python_tag|>{"name": "f", "parameters": {"a": 1}}, further calls after a semicolon; also
             <function=f>{"a": 1}</function>. The tag may be missing: tokenizers drop it as a special token
    openai   a JSON call or list of calls; the fields `tool_calls` and `function`, and arguments as a JSON text, as in
             the API; also after [TOOL_CALLS], as Mistral's models write it
    python   f(a=1, b="x"), several in a list, with literal values and without positional arguments

JSON and Python may stand in a fenced code block. A text that has calls in several notations, or a call that cannot
be read, has no calls that can be read.
"""

import ast
import re
import warnings
from dataclasses import dataclass
from typing import Any, Final, Literal

from r1exp.rewards.json_text import strict_json, without_fence

Notation = Literal["any", "hermes", "llama", "openai", "python"]
_MAX_PYTHON: Final = 20_000  # characters that are given to Python's parser
_MAX_CALLS: Final = 64
_HERMES: Final = "<tool_call>"
_HERMES_END: Final = "</tool_call>"
_PYTHON_TAG: Final = "<|python_tag|>"
_MISTRAL: Final = "[TOOL_CALLS]"
_FUNCTION_TAG: Final = re.compile(r"<function=([\w.-]{1,200})>(.*?)</function>", re.DOTALL)
_ENDS: Final = re.compile(r"(?:<\|eom_id\|>|<\|eot_id\|>)\s*$")
_NAMES: Final = {"true": True, "false": False, "null": None}  # which models write in Python calls


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function with named arguments."""

    name: str
    arguments: dict[str, Any]


def calls_in(text: str, notation: Notation = "any") -> list[Call] | None:
    """Return the calls of a text, in order; None where it has none that can be read."""
    text = _ENDS.sub("", text.strip()).strip()
    readers = {"hermes": _hermes, "llama": _llama, "openai": _openai, "python": _python}
    for name, read in readers.items():
        if notation in ("any", name):
            try:
                calls = read(text)
            except (ValueError, TypeError, RecursionError):
                calls = []
            if calls:
                return calls if len(calls) <= _MAX_CALLS else None
    return None


def attempts_a_call(text: str) -> bool:
    """Return whether a text has the marks of a call, readable or not."""
    marks = (_HERMES, _PYTHON_TAG, _MISTRAL, "<function=", '"tool_calls"', '"arguments"', '"parameters"')
    return any(mark in text for mark in marks) or calls_in(text) is not None


def _hermes(text: str) -> list[Call]:
    if text.count(_HERMES) != text.count(_HERMES_END):
        raise ValueError("a tag is not closed")
    outside, *parts = text.split(_HERMES)
    calls: list[Call] = []
    for part in parts:
        inside, mark, after = part.partition(_HERMES_END)
        if not mark:
            raise ValueError("the tags are out of order")
        calls += _from_json(strict_json(inside.strip()))
        outside += after
    return [] if _PYTHON_TAG in outside or _MISTRAL in outside or "<function=" in outside else calls


def _llama(text: str) -> list[Call]:
    if _HERMES in text or _MISTRAL in text:
        return []
    if "<function=" in text:
        num_tags = text.count("<function=")
        # Counted first: a search for the end of each of many open tags would take quadratic time.
        found = _FUNCTION_TAG.findall(text) if num_tags == text.count("</function>") else []
        if len(found) != num_tags:
            raise ValueError("a tag is not closed")
        return [Call(name, _arguments(strict_json(body))) for name, body in found]
    before, mark, after = text.rpartition(_PYTHON_TAG)
    if mark:
        if before.strip() and _PYTHON_TAG in before:
            raise ValueError("the tag is repeated")
        return _json_sequence(after.strip()) or _python(after.strip())
    return _json_sequence(text)


def _openai(text: str) -> list[Call]:
    before, mark, after = text.rpartition(_MISTRAL)
    if mark and before.strip():
        raise ValueError("text before the calls")
    return _from_json(strict_json(without_fence(after if mark else text)))


def _json_sequence(text: str) -> list[Call]:
    """Return the calls of JSON objects that stand one after the other, after semicolons or line breaks."""
    if not text.startswith("{"):
        return []
    try:
        return _from_json(strict_json(text))
    except ValueError:
        parts = re.split(r"(?<=\})\s*[;\n]\s*(?=\{)", text)
        return [call for part in parts for call in _from_json(strict_json(part))] if len(parts) > 1 else []


def _from_json(value: Any) -> list[Call]:
    """Return the calls of a parsed JSON value. Raises ValueError where it is something else."""
    if isinstance(value, list):
        return [call for item in value for call in _from_json(item)]
    if not isinstance(value, dict):
        raise ValueError("no call")
    if "tool_calls" in value:
        return _from_json(value["tool_calls"]) if isinstance(value["tool_calls"], list) else []
    if isinstance(value.get("function"), dict):
        return _from_json(value["function"])
    name = value.get("name")
    keys = [key for key in ("arguments", "parameters") if key in value]
    if not isinstance(name, str) or not name or len(keys) != 1:
        raise ValueError("no call")
    return [Call(name, _arguments(value[keys[0]]))]


def _arguments(value: Any) -> dict[str, Any]:
    if isinstance(value, str):  # as in OpenAI's API
        value = strict_json(value)
    if not isinstance(value, dict):
        raise ValueError("the arguments are no object")
    return value


def _python(text: str) -> list[Call]:
    text = without_fence(text)
    if len(text) > _MAX_PYTHON or "(" not in text:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on escapes in the completion's texts
            body = ast.parse(text, mode="exec").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    calls: list[Call] = []
    for statement in body:
        if not isinstance(statement, ast.Expr):
            return []
        value = statement.value
        items = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
        calls += [_python_call(item) for item in items]
    return calls


def _python_call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("no call with named arguments")
    arguments = {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords}
    return Call(_dotted(node.func), arguments)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise ValueError("the function has no name")


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal; a call of its own is no value."""
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {str(_literal(key)): _literal(value) for key, value in pairs if key is not None}
    value = ast.literal_eval(node)
    if value is not None and not isinstance(value, str | bool | int | float):
        raise ValueError("no JSON value")
    return value
