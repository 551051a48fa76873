"""Parsing and quoting of overrides."""

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from r1exp.config.overrides import parse, quote
from r1exp.errors import Refused


@pytest.mark.parametrize(
    "value",
    [None, True, False, 3, -2, 0.5, 1e-6, "plain", "", "a b", "it's", 'say "so"', "a,b", "x=1", "(y)", "$5", "ü 中",
     "null", "true", "12", "back\\slash", "ends in \\", "a\\'b", [1, "two", None], {"a": 1, "b": [True]}],
    ids=repr,
)  # fmt: skip
def test_a_quoted_value_parses_back_to_itself(value: Any) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"++key={quote(value)}"])
    parsed = override.value()
    assert _plain(parsed) == value


def _plain(parsed: Any) -> Any:
    if isinstance(parsed, list):
        return [_plain(item) for item in parsed]
    if isinstance(parsed, dict):
        return {str(key): _plain(item) for key, item in parsed.items()}
    return getattr(parsed, "text", parsed) if type(parsed).__name__ == "QuotedString" else parsed


def test_overrides_are_parsed_into_their_parts() -> None:
    model, beta, added, swept = parse(["model=tiny", "beta=0.1", "+x.y=1", "seed=1,2"], ["model"])
    assert (model.is_group, model.for_hydra()) == (True, "model=tiny")
    assert (beta.head, beta.value, beta.for_hydra()) == ("beta", "0.1", "++beta=0.1")
    assert (added.key, added.is_plain, added.for_hydra()) == ("x.y", False, "+x.y=1")
    assert swept.is_sweep


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("modle", "neither a verb nor an override", id="no equals sign"),
        pytest.param("a=(1", "need quotes", id="an open bracket"),
    ],
)
def test_an_argument_that_is_not_an_override_is_refused_with_advice(text: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        parse([text], [])
