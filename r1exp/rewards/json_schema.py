"""Scores 1 if a completion is JSON that follows a schema, else 0.

The schema is one setting for all rows, or a column that holds an object or JSON text. It is checked by the library
jsonschema, in the draft that its `$schema` names, else 2020-12. What a schema may do is bounded:

    $ref      only to the schema itself and to the drafts' own: nothing is read from the network or from files
    patterns  each match is stopped after half a second (`r1exp.rewards.patterns`), and all of a reply after one
    keywords  at most 50,000 are evaluated, so that references that branch cannot take exponential time

A schema that is invalid, or that refers elsewhere, is the data's fault: the reward abstains. JSON that cannot be checked
within the bounds is wrong. A reply is JSON, or one code block with JSON; text around it, several blocks, repeated keys,
NaN and nesting beyond 100 levels are wrong. As in the library, `format` only describes.
"""

import json
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal, Self, cast

from pydantic import JsonValue, model_validator

from r1exp.prompt.settings import StyleName
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, Abstain, Context, Reward, Score, Span
from r1exp.rewards.json_text import fenced_blocks, strict_json, without_fence
from r1exp.rewards.patterns import UnreadablePattern, compiled, matches
from r1exp.rewards.reading import Read, column_as_json, reply_in
from r1exp.settings import Name

UNREADABLE_SCHEMA: Final = Abstain("schema unreadable")
_MAX_EVALUATIONS: Final = 50_000  # of keywords; about half a second
_MAX_PATTERN_SECONDS: Final = 1.0  # of processor time for all patterns of one reply


class _TooMuchError(Exception):
    """The JSON cannot be checked within the bounds."""


class JsonSchema(Reward):
    """Checks that the reply is JSON that follows a schema."""

    kind: Literal["json_schema"] = "json_schema"
    style: StyleName  # decides where the JSON is read
    read: Read = "style"  # style: the answer's place; whole: all that follows the reasoning
    column: Name | None = None  # column of each row's schema, an object or JSON text
    json_schema: dict[str, JsonValue] | None = None  # one schema for all rows, instead of a column
    text_around: bool = False  # whether text may stand around the one code block
    judges_correctness: ClassVar[bool] = True
    needs_gold: ClassVar[bool] = False  # the schema is enough

    @model_validator(mode="after")
    def _has_one_schema(self) -> Self:
        if (self.column is None) == (self.json_schema is None):
            raise ValueError(
                "give the column that holds each row's schema (column=schema), or one for all rows (json_schema={...}), "
                "one of the two"
            )
        if self.json_schema is not None:
            _validator(json.dumps(self.json_schema))
        return self

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def cheats(self, problem: Problem) -> dict[str, str]:
        """Return JSON values without content."""
        del problem
        return {f"the JSON value {value}": value for value in ("{}", "[]", "null", '""', "0")}

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del context
        if self.column is not None and problem.columns.get(self.column) is None:
            return NO_GOLD
        try:
            schema = self.json_schema if self.column is None else column_as_json(problem, self.column)
            validator = _validator(json.dumps(schema))
        except ValueError:
            return UNREADABLE_SCHEMA
        reply = reply_in(completion.text, self.style, self.read)
        if reply is None:
            return 0.0
        blocks = fenced_blocks(reply) if self.text_around else []
        try:
            value = strict_json(blocks[0] if len(blocks) == 1 else without_fence(reply))
        except ValueError:
            return 0.0
        return _score(validator, value)


def _score(validator: Any, value: Any) -> Score:
    """Return whether a value is valid; abstain where the schema refers to what is not there."""
    import referencing.exceptions

    _budget.left, _budget.seconds = _MAX_EVALUATIONS, _MAX_PATTERN_SECONDS
    try:
        return float(validator.is_valid(value))
    except (_TooMuchError, RecursionError, ArithmeticError):
        return 0.0
    except (referencing.exceptions.Unresolvable, UnreadablePattern):
        return UNREADABLE_SCHEMA


class _Budget:
    """Counts the keywords that are still evaluated for one completion."""

    left = 0
    seconds = 0.0  # of processor time for all patterns

    def spend(self) -> None:
        """Count one keyword. Raises _TooMuchError where none is left."""
        self.left -= 1
        if self.left < 0:
            raise _TooMuchError


_budget = _Budget()
_Keyword = Callable[[Any, Any, Any, Any], Iterator[Any] | None]


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    """Return a validator of a schema, which is given as JSON text.

    Raises:
        ValueError: it is no valid schema.
    """
    import jsonschema
    import referencing

    parsed: Any = json.loads(schema)
    if not isinstance(parsed, dict | bool):
        raise ValueError("a schema must be an object")
    if '"patternProperties"' in schema and '"unevaluatedProperties"' in schema:
        raise ValueError("patternProperties together with unevaluatedProperties cannot be bounded in time")
    draft = jsonschema.validators.validator_for(parsed, default=jsonschema.Draft202012Validator)
    try:
        draft.check_schema(cast(dict[str, Any], parsed))
    except (jsonschema.SchemaError, RecursionError) as error:
        raise ValueError(
            f"it is no valid JSON schema: {getattr(error, 'message', 'nested too deeply')}"
        ) from error
    keywords = {name: _counted(keyword) for name, keyword in draft.VALIDATORS.items()}
    keywords |= {
        "pattern": _counted(_pattern),
        "patternProperties": _counted(_pattern_properties),
        "additionalProperties": _counted(_additional_properties),
        "uniqueItems": _counted(_unique_items),
    }
    bounded = jsonschema.validators.extend(draft, keywords)
    # An empty registry: the default one reads references to other places from the network.
    return bounded(parsed, registry=referencing.Registry())


def _counted(keyword: Any) -> _Keyword:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any] | None:
        _budget.spend()
        errors: Iterator[Any] | None = keyword(validator, value, instance, schema)
        return errors

    return counted


def _matches(pattern: str, text: str) -> bool:
    begin = time.process_time()
    found = matches(compiled(pattern), text, whole=False)
    _budget.seconds -= time.process_time() - begin
    if found is None or _budget.seconds < 0.0:
        raise _TooMuchError
    return found


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    del schema
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield _error(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[Any]:
    del schema
    if validator.is_type(instance, "object"):
        for pattern, inner in patterns.items():
            for key, value in instance.items():
                if _matches(pattern, key):
                    yield from validator.descend(value, inner, path=key, schema_path=pattern)


def _additional_properties(validator: Any, further: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key, value in instance.items():
        if key in known or any(_matches(pattern, key) for pattern in patterns):
            continue
        if further is False:
            yield _error(f"{key!r} is not allowed")
        elif further is not True:
            yield from validator.descend(value, further, path=key)


def _unique_items(validator: Any, unique: bool, instance: Any, schema: Any) -> Iterator[Any]:
    """Compare the texts of the items: the library compares each object with each other one."""
    del schema
    if unique and validator.is_type(instance, "array"):
        texts = [json.dumps(_with_one_kind_of_number(item), sort_keys=True) for item in instance]
        if len(set(texts)) < len(texts):
            yield _error("an item is repeated")


def _with_one_kind_of_number(value: Any) -> Any:
    """Return a value in which 1.0 is 1, as equal JSON numbers are."""
    if isinstance(value, dict):
        return {key: _with_one_kind_of_number(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_one_kind_of_number(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _error(message: str) -> Any:
    import jsonschema

    return jsonschema.ValidationError(message)
