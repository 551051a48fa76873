"""Reads the text that a verifier judges: the answer's place, or all that follows the reasoning."""

import json
from typing import Any, Literal

from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Problem

# style: what stands in the place that the prompt style gives the answer; whole: all that follows the reasoning, for
# replies that are more than one answer, such as a letter or a list of calls.
Read = Literal["style", "whole"]


def reply_in(text: str, style: StyleName, read: Read) -> str | None:
    """Return the judged part of a completion, stripped; None where its place is absent or blank."""
    place = style_named(style)
    if read == "style":
        return place.read_answer(text) or None
    if len(place.tags) > 1 and place.tags[1] in text:
        text = text.rpartition(place.tags[1])[2]
    text = text.strip()
    if len(place.tags) == 4 and text.startswith(place.tags[2]) and text.endswith(place.tags[3]):
        text = text.removeprefix(place.tags[2]).removesuffix(place.tags[3]).strip()
    return text or None


def texts_in(value: Any) -> list[str]:
    """Return the texts of a column: a text, a list of them, or an object with them as SQuAD and TriviaQA have it."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, dict):
        return [text for key in ("value", "text", "aliases") for text in texts_in(value.get(key))]
    if isinstance(value, list | tuple):
        return [text for item in value for text in texts_in(item)]
    return [str(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def column_as_json(problem: Problem, column: str) -> Any:
    """Return the value of a column; where it is a text, the JSON in it.

    Nested values of different types cannot be stored in one column of a data set, so data with them hold JSON text.
    What such a data set fills in for keys that a row does not have, null, is left out.

    Raises:
        ValueError: there is no such column, it is null, or its text is no JSON.
    """
    value = problem.columns.get(column)
    if value is None:
        raise ValueError(f"the row has no {column}")
    try:
        return json.loads(value) if isinstance(value, str) else without_nulls(value)
    except RecursionError as error:
        raise ValueError(f"{column} is nested too deeply") from error


def without_nulls(value: Any) -> Any:
    """Return nested lists and objects without the keys whose value is null."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list | tuple) else value
