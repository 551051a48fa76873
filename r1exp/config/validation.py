"""Validates a composed configuration with pydantic, and turns its errors into messages for the user.

An unknown key is refused in every form (plain, `+`, `++`, YAML), with the nearest known key.
"""

import json
import re
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from r1exp.algorithm.trainer_fields import usable_fields
from r1exp.config.names import hint_for
from r1exp.config.overrides import Override
from r1exp.config.targets import NAMED
from r1exp.errors import Refused
from r1exp.registry import NO_KIND, Registry
from r1exp.rollout.menu import ROLLOUTS
from r1exp.settings import Settings, nearest

Model = TypeVar("Model", bound=Settings)


def validated(
    schema: type[Model], values: dict[str, Any], overrides: Sequence[Override] = (), where: str = ""
) -> Model:
    """Return `values` as a frozen `schema`.

    Args:
        schema: The settings class.
        values: Resolved, plain values as Hydra composed them.
        overrides: The overrides that the values were composed from, so that messages can repeat them.
        where: Prefix of every key in messages, for example `step sft: `.

    Raises:
        Refused: one line for each key that is unknown, missing or ill-typed.
    """
    try:
        return schema.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
        lines = [_line(detail, schema, values, overrides) for detail in details]
        raise Refused("\n".join(f"{where}{line}" for line in dict.fromkeys(lines))) from error


def _line(
    detail: ErrorDetails, schema: type[Settings], values: dict[str, Any], overrides: Sequence[Override]
) -> str:
    path = _path(detail["loc"], values)
    entry = _entry_without_key(detail, path, values, overrides)
    if detail["type"] == "extra_forbidden" or entry is not None:
        return _unknown_key(entry or path, schema, values, overrides, is_entry=entry is not None)
    reason = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{path}: {reason}" if path else reason
    if detail["type"] == "missing":
        return f"{path}: has no value; give one: {path}=...{_value_of_neighbor(path, values)}"
    if detail["type"] == NO_KIND:
        return f"{path}: {reason}"
    if detail["type"] == "union_tag_invalid":
        return (
            f"{path}.kind={detail['ctx']['tag']}: there is no such {path.rpartition('.')[2]}{_choice(detail)}"
        )
    found = json.dumps(detail["input"], ensure_ascii=False, default=str)
    close = _choice(detail) if detail["type"] == "literal_error" else ""
    return (
        f"{path}={found if len(found) < 200 else found[:200] + '...'}: {reason[0].lower()}{reason[1:]}{close}"
    )


def _unknown_key(
    path: str, schema: type[Settings], values: dict[str, Any], overrides: Sequence[Override], is_entry: bool
) -> str:
    """Return the message about a key that does not exist, or about an entry of a mapping with a misspelt name."""
    typed = _typed_key(path, overrides) or _first_leaf(path, values)
    head = path.split(".")[0]
    if head in NAMED:
        return f"{typed}: the keys of that file are below `{head}`; give it `# @package _global_` as its first line"
    step = path.split(".")[2] if path.startswith("pipeline.steps.") and path.count(".") >= 2 else None
    if step is not None and not values["pipeline"]["steps"].get(step, {}).get("use"):
        others = [name for name in values["pipeline"]["steps"] if name != step]
        near = nearest(step, others)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"pipeline.steps.{step}: the pipeline has no such step.{hint} Steps: {', '.join(others)}"
    found = values.get("rollout")
    kind = found.get("kind") if isinstance(found, dict) else None
    if path.startswith("rollout.") and kind in ROLLOUTS.kinds():
        reason = ROLLOUTS.find(kind).cannot_have.get(path.removeprefix("rollout."))
        if reason is not None:
            return f"{typed}: rollout={kind} has no such key: {reason}"
    close = nearest_key(typed, sorted(known_keys(schema, values, skip=path)))
    elsewhere = hint_for(typed)
    hint = f" {elsewhere}" if elsewhere else f" Did you mean {close}?" if close else ""
    new = f" A new entry needs {path}.{_ENTRIES[head][1]}." if is_entry else ""
    return f"{typed}: there is no such key.{hint}{new}"


def _choice(detail: ErrorDetails) -> str:
    """Return the allowed value that is most similar to the one found, and for kinds all of them."""
    is_kind = detail["type"] == "union_tag_invalid"
    context = detail["ctx"]
    allowed = re.findall(r"'([^']*)'", str(context["expected_tags" if is_kind else "expected"]))
    found = context["tag"] if is_kind else detail["input"]
    close = nearest(found, allowed) if isinstance(found, str) else []
    hint = f". Did you mean {close[0]}?" if close else "." if is_kind else ""
    return f"{hint} Kinds: {', '.join(allowed)}" if is_kind else hint


def _value_of_neighbor(path: str, values: dict[str, Any]) -> str:
    """Return the value that another entry of the same mapping has for the last part of `path`."""
    *above, name, key = path.split(".")
    mapping: Any = values
    for part in above:
        mapping = mapping.get(part) if isinstance(mapping, dict) else None
    for other, entry in mapping.items() if isinstance(mapping, dict) else ():
        if other != name and isinstance(entry, dict) and isinstance(entry.get(key), str | int | float):
            return f" ({'.'.join([*above, other, key])} is {entry[key]})"
    return ""


def _path(location: tuple[int | str, ...], values: Any) -> str:
    """Return a location as a dotted key, without the parts that pydantic adds for members of a union."""
    parts: list[str] = []
    here = values
    for part in location:
        if isinstance(part, str) and not isinstance(here, dict | list):
            continue
        parts.append(str(part))
        if isinstance(here, dict):
            here = here.get(str(part))
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            here = None
    return ".".join(parts)


# Mappings whose entries have names, and the key that makes an entry: a misspelt name makes one without it.
_ENTRIES = {
    "rewards": (1, "kind"),
    "health": (2, "metric"),
    "pipeline": (2, "use"),
    "evaluation": (2, "dataset"),
    "dataset": (2, "kind"),
}  # depth of the name


def _entry_without_key(
    detail: ErrorDetails, path: str, values: dict[str, Any], overrides: Sequence[Override]
) -> str | None:
    """Return the entry of a mapping that a misspelt name created, which has no `kind`, `use` or `metric`; else None."""
    parts = path.split(".")
    depth, key = _ENTRIES.get(parts[0], (0, ""))
    if detail["type"] not in (NO_KIND, "union_tag_not_found", "missing") or depth == 0:
        return None
    entry: Any = values
    for part in parts[: depth + 1]:
        entry = entry.get(part) if isinstance(entry, dict) else None
    name = ".".join(parts[: depth + 1])
    was_deleted = any(override.text.startswith(f"~{name}.") for override in overrides)
    return name if isinstance(entry, dict) and key not in entry and not was_deleted else None


def _typed_key(path: str, overrides: Sequence[Override]) -> str | None:
    """Return the key as it was typed; for an override whose value is a mapping, the key inside it."""
    for override in overrides:
        if override.is_group:
            continue
        if override.key == path or override.key.startswith(f"{path}."):
            return override.key
        if path.startswith(f"{override.key}."):
            return path
    return None


def _first_leaf(path: str, values: Any) -> str:
    here = values
    for part in path.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    while isinstance(here, dict) and here:
        part, here = next(iter(here.items()))
        path = f"{path}.{part}"
    return path


def nearest_key(typed: str, known: Sequence[str]) -> str | None:
    """Return the known key most similar to `typed`; keys that differ in only one segment are preferred."""
    parts = typed.split(".")
    siblings = [
        key
        for key in known
        if len(key.split(".")) == len(parts)
        and sum(a != b for a, b in zip(key.split("."), parts, strict=True)) == 1
    ]
    close = nearest(typed, siblings) or nearest(typed, known)
    return close[0] if close else None


def known_keys(schema: type[Settings], values: dict[str, Any], skip: str = "") -> set[str]:
    """Return every dotted key the schema allows, given the kinds chosen in `values`.

    Args:
        schema: The settings class.
        values: Values that determine the class if there are several, and the names in mappings.
        skip: A key of `values` to leave out, because it is the unknown key.
    """
    keys = {key for key, _ in _walk(schema, values, "")}
    keys |= {f"trainer.{name}" for name in usable_fields()}
    return {key for key in keys if not skip or (key != skip and not key.startswith(f"{skip}."))}


def _walk(annotation: Any, values: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    model = _model_of(annotation, values)
    if model is not None:
        for name, field in model.model_fields.items():
            key = f"{prefix}{name}"
            yield key, field
            below = values.get(name) if isinstance(values, dict) else None
            yield from _walk(field.annotation, below, f"{key}.")
        return
    mapping = next((part for part in _members(annotation) if get_origin(part) is dict), None)
    if mapping is not None and isinstance(values, dict):
        for name, below in values.items():
            yield f"{prefix}{name}", None
            yield from _walk(get_args(mapping)[1], below, f"{prefix}{name}.")


def _members(annotation: Any) -> list[Any]:
    """Return the members of a union, including nested and annotated ones."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for part in get_args(annotation) for member in _members(part)]
    return [] if annotation is NoneType else [annotation]


def _model_of(annotation: Any, values: Any) -> type[BaseModel] | None:
    models = [part for part in _members(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
    kind = values.get("kind") if isinstance(values, dict) else None
    if len(models) == 1:
        registry = Registry.of(models[0])
        if registry is None:
            return models[0]
        try:
            return registry.find(kind) if isinstance(kind, str) else None
        except ValueError:  # an unknown kind, which is reported separately
            return None
    for model in models:
        field = model.model_fields.get("kind")
        if field is not None and kind is not None and kind in get_args(field.annotation):
            return model
    return None
