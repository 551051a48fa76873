"""JSON replies checked against schemas, with bounds on what a schema may cost."""

import json
import socket
import time
from typing import Any

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, Context
from r1exp.rewards.json_schema import UNREADABLE_SCHEMA, JsonSchema

NOW = Context()
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def score(reply: str, schema: Any = PERSON, **settings: Any) -> Any:
    reward = JsonSchema(style="think_answer", column="schema", **settings)
    problem = Problem("p", "?", None, {"schema": schema})
    return reward.score(problem, Completion(f"<think>x</think><answer>{reply}</answer>", 5), NOW)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param('{"name": "Ann", "age": 3}', 1.0, id="valid"),
        pytest.param('```json\n{"name": "Ann"}\n```', 1.0, id="in a code block"),
        pytest.param('~~~~ JSON\n{"name": "Ann"}\n~~~~', 1.0, id="in another kind of code block"),
        pytest.param('{"name": "ann"}', 0.0, id="against the pattern"),
        pytest.param('{"name": "Ann", "age": -1}', 0.0, id="below the minimum"),
        pytest.param('{"name": "Ann", "age": true}', 0.0, id="true is no integer"),
        pytest.param('{"age": 3}', 0.0, id="a key is missing"),
        pytest.param('{"name": "Ann", "x": 1}', 0.0, id="a key too many"),
        pytest.param('{"name": "Ann", "name": "Bob"}', 0.0, id="a repeated key"),
        pytest.param('{"name": "Ann", "age": NaN}', 0.0, id="NaN"),
        pytest.param("{'name': 'Ann'}", 0.0, id="Python instead of JSON"),
        pytest.param('{"name": "Ann"}}', 0.0, id="more than one value"),
        pytest.param('Here: {"name": "Ann"}', 0.0, id="text before it"),
        pytest.param('```json\n{"name": "Ann"}\n```\nDone.', 0.0, id="text after the code block"),
        pytest.param('{"name": ' * 100_000, 0.0, id="nested too deeply"),
        pytest.param("", 0.0, id="nothing"),
    ],
)
def test_a_reply_is_valid_json_or_wrong(reply: str, expected: float) -> None:
    assert score(reply) == expected
    assert score(reply, json.dumps(PERSON)) == expected


def test_text_around_the_one_code_block_can_be_allowed() -> None:
    block = '```json\n{"name": "Ann"}\n```'
    assert score(f"Here:\n{block}\nDone.", text_around=True) == 1.0
    assert score(f"{block}\n{block}", text_around=True) == 0.0


@pytest.mark.parametrize(
    "schema",
    [
        "no JSON",
        {"type": "nothing"},
        {"$ref": "#/$defs/missing"},
        {"pattern": "((a{999}){999}){999}"},
        {"patternProperties": {"(a|aa)+$": {}}, "unevaluatedProperties": False},
    ],
)
def test_a_schema_that_cannot_be_used_abstains(schema: Any) -> None:
    assert score('"x"', schema) == UNREADABLE_SCHEMA


def test_a_row_without_a_schema_abstains() -> None:
    assert score("{}", None) == NO_GOLD


def test_a_reference_is_never_read_from_the_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        assert score("{}", {"$ref": url}) == UNREADABLE_SCHEMA
        with pytest.raises(TimeoutError):
            server.accept()


def test_references_inside_the_schema_are_followed() -> None:
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}}
    assert score("[[], [[]]]", tree) == 1.0
    assert score("[[], [[1]]]", tree) == 0.0


def branches(depth: int) -> str:
    return '{"c": ' * depth + "1" + "}" * depth


BRANCHING = {
    "$ref": "#/$defs/n",
    "$defs": {
        "n": {
            "anyOf": [{"properties": {"c": {"$ref": "#/$defs/n"}}, "required": [key]} for key in ("x", "y")]
        }
    },
}


@pytest.mark.parametrize(
    ("reply", "schema"),
    [
        pytest.param('"' + "a" * 64 + 'b"', {"pattern": "(a|aa)+$"}, id="pattern"),
        pytest.param(
            '{"' + "a" * 64 + 'b": 1}', {"patternProperties": {"(a|aa)+$": {}}}, id="pattern of keys"
        ),
        pytest.param(
            '{"' + "a" * 64 + 'b": 1}',
            {"patternProperties": {"(a|aa)+$": {}}, "additionalProperties": False},
            id="pattern of other keys",
        ),
        pytest.param(
            json.dumps({f"{'a' * 24}b{n}": 1 for n in range(500)}),
            {"patternProperties": {"(a|aa)+$": {}}},
            id="a slow pattern for many keys",
        ),
        pytest.param(f"[{'{},' * 60_000}{{}}]", {"uniqueItems": True}, id="many objects that must differ"),
        pytest.param("1e400", {"multipleOf": 0.1}, id="a number beyond the floats"),
        pytest.param("1e308", {"multipleOf": 1e-300, "maximum": 5}, id="a quotient beyond the floats"),
        pytest.param(branches(60), BRANCHING, id="references that branch"),
    ],
)
def test_json_that_cannot_be_checked_in_time_is_wrong(reply: str, schema: Any) -> None:
    begin = time.process_time()
    assert score(reply, schema) == 0.0
    assert time.process_time() - begin < 10.0


def test_items_are_unique_as_json_values() -> None:
    schema = {"uniqueItems": True}
    assert score('[1, true, "1", {"a": 1}, {"a": 2}]', schema) == 1.0
    assert [score(reply, schema) for reply in ("[1, 1.0]", '[{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]')] == [
        0.0,
        0.0,
    ]


def test_additional_properties_follow_their_own_schema() -> None:
    schema = {
        "properties": {"a": {}},
        "patternProperties": {"^x": {}},
        "additionalProperties": {"type": "integer"},
    }
    assert score('{"a": "s", "x1": "s", "b": 1}', schema) == 1.0
    assert score('{"b": "s"}', schema) == 0.0


def test_one_schema_can_be_given_in_the_settings() -> None:
    reward = JsonSchema(style="plain", json_schema={"type": "integer"})
    assert reward.score(Problem("p", "?"), Completion("#### 3", 5), NOW) == 1.0
    with pytest.raises(ValueError, match="no valid JSON schema"):
        JsonSchema(style="plain", json_schema={"type": "nothing"})
    with pytest.raises(ValueError, match="one of the two"):
        JsonSchema(style="plain")
