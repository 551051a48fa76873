"""Validates a composed configuration with pydantic, and turns its errors into messages for the user.

An unknown key is refused in every form (plain, `+`, `++`, YAML), with the nearest known key.
"""

import json
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from r1exp.algorithm.trainer_fields import OWNED, every_field
from r1exp.config.names import hint_for
from r1exp.config.overrides import Override
from r1exp.config.targets import NAMED
from r1exp.errors import Refused
from r1exp.registry import NO_KIND, Registry
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
    if detail["type"] == "extra_forbidden" or _lacks_its_kind(detail, path, values):
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
        close = nearest_key(typed, sorted(known_keys(schema, values, skip=path)))
        hint = (
            f" {elsewhere}" if (elsewhere := hint_for(typed)) else f" Did you mean {close}?" if close else ""
        )
        return f"{typed}: there is no such key.{hint}"
    reason = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{path}: {reason}" if path else reason
    if detail["type"] == "missing":
        return f"{path}: has no value; give one: {path}=..."
    found = json.dumps(detail["input"], ensure_ascii=False, default=str)
    return f"{path}={found if len(found) < 200 else found[:200] + '...'}: {reason[0].lower()}{reason[1:]}"


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


def _lacks_its_kind(detail: ErrorDetails, path: str, values: dict[str, Any]) -> bool:
    """Whether a misspelt name created a new entry of a mapping, which has no `kind`, `use` or `metric`."""
    return detail["type"] in (NO_KIND, "union_tag_not_found", "missing") and path.split(".")[0] in (
        "rewards",
        "pipeline",
        "health",
    )


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
    keys |= {f"trainer.{name}" for name in every_field() - OWNED.keys()}
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
