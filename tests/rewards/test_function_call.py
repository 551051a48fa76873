"""Function calls: the notations they are read from, and BFCL's rules for what is right."""

import json
import time
from typing import Any

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, UNREADABLE_GOLD, Context
from r1exp.rewards.calls import Call, Notation, calls_in
from r1exp.rewards.function_call import UNREADABLE_FUNCTIONS, FunctionCall

NOW = Context()
ADD = Call("add", {"a": 1, "unit": "m"})
WEATHER = Call("weather.get", {"city": "Paris", "days": [1, 2]})

NOTATIONS = {
    "hermes": '<tool_call>\n{"name": "add", "arguments": {"a": 1, "unit": "m"}}\n</tool_call> and '
    '<tool_call>{"arguments": {"city": "Paris", "days": [1, 2]}, "name": "weather.get"}</tool_call>',
    "llama": '<|python_tag|>{"name": "add", "parameters": {"a": 1, "unit": "m"}}; '
    '{"name": "weather.get", "parameters": {"city": "Paris", "days": [1, 2]}}<|eom_id|>',
    "llama without its tag": '{"name": "add", "parameters": {"a": 1, "unit": "m"}}\n'
    '{"name": "weather.get", "parameters": {"city": "Paris", "days": [1, 2]}}',
    "llama with function tags": '<function=add>{"a": 1, "unit": "m"}</function>'
    '<function=weather.get>{"city": "Paris", "days": [1, 2]}</function>',
    "openai": json.dumps(
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "unit": "m"}'}},
                {"type": "function", "function": {"name": WEATHER.name, "arguments": json.dumps(WEATHER.arguments)}},
            ],
        }
    ),
    "a list in a code block": '```json\n[{"name": "add", "arguments": {"a": 1, "unit": "m"}},\n'
    '{"name": "weather.get", "arguments": {"city": "Paris", "days": [1, 2]}}]\n```',
    "mistral": '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1, "unit": "m"}}, '
    '{"name": "weather.get", "arguments": {"city": "Paris", "days": [1, 2]}}]',
    "python": "[add(a=1, unit='m'), weather.get(city=\"Paris\", days=[1, 2])]",
    "python on lines": "```python\nadd(a=1, unit='m')\nweather.get(city='Paris', days=(1, 2))\n```",
}  # fmt: skip


@pytest.mark.parametrize("text", NOTATIONS.values(), ids=NOTATIONS)
def test_the_same_calls_are_read_from_every_notation(text: str) -> None:
    assert calls_in(text) == [ADD, WEATHER]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('<tool_call>{"name": "f", "arguments": {}}', id="a tag that is not closed"),
        pytest.param(
            '<tool_call>{"name": "f", "arguments": {"a": 1, "a": 2}}</tool_call>', id="a repeated key"
        ),
        pytest.param('<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>', id="NaN"),
        pytest.param(
            '<tool_call>{"name": "f", "arguments": {}}</tool_call><|python_tag|>g(a=1)', id="two notations"
        ),
        pytest.param("f(1)", id="a positional argument"),
        pytest.param("f(**{'a': 1})", id="unpacked arguments"),
        pytest.param("f(a=g(b=1))", id="a call inside a call"),
        pytest.param("f(a=b'x')", id="bytes"),
        pytest.param("import os; os.system(command='x')", id="a program"),
        pytest.param("I would call f(a=1).", id="prose"),
        pytest.param('{"name": "f"}', id="no arguments"),
        pytest.param('[{"name": "f", "arguments": [1]}]', id="arguments in a list"),
    ],
)
def test_what_is_no_list_of_calls_has_none(text: str) -> None:
    assert calls_in(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "f(a=" + "-" * 19_000 + "1)", "f" + "()" * 9_000, "[" * 100_000, "f(a='" + "\\" * 10_000, "```\n" * 50_000,
        '<tool_call>{"a":' * 5_000, "{}\n" * 60_000, "<function=f>" * 10_000, "not " * 5_000 + "f()",
    ],
)  # fmt: skip
def test_pathological_texts_are_read_quickly(text: str) -> None:
    begin = time.process_time()
    assert calls_in(text) is None
    assert time.process_time() - begin < 1.0


GOLD = [{"geo.area": {"base": [6], "height": [10.0, 10], "unit": ["square meters", "", "m2"]}}]
FUNCTIONS = [
    {
        "name": "geo.area",
        "parameters": {
            "type": "dict",
            "properties": {
                "base": {"type": "integer"},
                "height": {"type": "float"},
                "unit": {"type": "string"},
            },
            "required": ["base", "height"],
        },
    }
]


def score(reply: str, gold: Any = GOLD, functions: Any = FUNCTIONS, **settings: Any) -> Any:
    reward = FunctionCall(style="think_answer", functions="function", **settings)
    problem = Problem("p", "?", None, {"ground_truth": gold, "function": functions})
    return reward.score(problem, Completion(f"<think>x</think><answer>{reply}</answer>", 5), NOW)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param("geo.area(base=6, height=10.0, unit='m2')", 1.0, id="all arguments"),
        pytest.param("geo.area(base=6, height=10)", 1.0, id="without the optional one; an integer for a float"),
        pytest.param("geo_area(base=6, height=10)", 1.0, id="OpenAI's spelling of the name"),
        pytest.param("geo.area(base=6, height=10, unit='Square-Meters')", 1.0, id="case and punctuation of a text"),
        pytest.param("geo.area(base=6.0, height=10)", 0.0, id="a float for an integer"),
        pytest.param("geo.area(base='6', height=10)", 0.0, id="a text for an integer"),
        pytest.param("geo.area(base=True, height=10)", 0.0, id="true for an integer"),
        pytest.param("geo.area(base=7, height=10)", 0.0, id="a value that is not accepted"),
        pytest.param("geo.area(base=6)", 0.0, id="without a required argument"),
        pytest.param("geo.area(base=6, height=10, color='red')", 0.0, id="an unknown argument"),
        pytest.param("geo.volume(base=6, height=10)", 0.0, id="another function"),
        pytest.param("[geo.area(base=6, height=10), geo.area(base=6, height=10)]", 0.0, id="called twice"),
        pytest.param("The area is 30.", 0.0, id="no call"),
    ],
)  # fmt: skip
def test_a_call_is_right_by_bfcls_rules(reply: str, expected: float) -> None:
    assert score(reply) == expected
    assert score(reply, json.dumps(GOLD), json.dumps(FUNCTIONS)) == expected


def test_parallel_calls_may_be_in_any_order_and_each_needs_its_own_gold_call() -> None:
    gold = [{"f": {"a": [1, 2]}}, {"f": {"a": [1]}}]
    assert score("[f(a=1), f(a=2)]", gold, []) == 1.0
    assert score("[f(a=2), f(a=1)]", gold, []) == 1.0
    assert score("[f(a=2), f(a=2)]", gold, []) == 0.0


def test_nested_values_are_compared_with_the_accepted_ones() -> None:
    gold = [
        {"f": {"where": [{"city": ["Paris", "paris, FR"], "zip": ["75001", ""]}], "tags": [["a b", "c"]]}}
    ]
    assert score("f(where={'city': 'Paris FR'}, tags=['A-B', 'c'])", gold, []) == 1.0
    assert score("f(where={'city': 'Rome'}, tags=['a b', 'c'])", gold, []) == 0.0
    assert score("f(where={'city': 'Paris'}, tags=['c', 'a b'])", gold, []) == 0.0


def test_exact_calls_are_gold_too() -> None:
    gold = [{"name": "f", "arguments": '{"a": {"b": [1, 2]}, "c": "x y"}'}]
    assert (
        score('<tool_call>{"name": "f", "arguments": {"a": {"b": [1, 2]}, "c": "X Y"}}</tool_call>', gold, [])
        == 1.0
    )
    assert score("f(a={'b': [1, 2]}, c='X Y')", gold, [], texts="exact") == 0.0
    assert score("f(a={'b': [2, 1]}, c='x y')", gold, []) == 0.0


def test_where_no_function_fits_a_reply_without_calls_is_right() -> None:
    assert score("I cannot do that.", []) == 1.0
    assert score("f(a=1)", []) == 0.0
    assert score('<tool_call>{"name": broken', []) == 0.0
    assert score("", []) == 0.0


@pytest.mark.parametrize(
    ("gold", "functions", "expected"),
    [
        (None, FUNCTIONS, NO_GOLD),
        ("no JSON", FUNCTIONS, UNREADABLE_GOLD),
        ([{"f": 1}], FUNCTIONS, UNREADABLE_GOLD),
        (GOLD, "no JSON", UNREADABLE_FUNCTIONS),
        (GOLD, [{"parameters": {}}], UNREADABLE_FUNCTIONS),
    ],
)
def test_columns_that_cannot_be_read_abstain(gold: Any, functions: Any, expected: Any) -> None:
    assert score("f(a=1)", gold, functions) == expected


@pytest.mark.parametrize("notation", ["any", "hermes", "llama", "openai", "python"])
def test_the_gold_answer_is_right_in_every_notation(notation: Notation) -> None:
    reward = FunctionCall(style="think_answer", functions="function", notation=notation)
    problem = Problem("p", "?", None, {"ground_truth": GOLD, "function": FUNCTIONS})
    assert score(reward.gold_answer(problem) or "", notation=notation) == 1.0
    assert [score(cheat, notation=notation) for cheat in reward.cheats(problem).values()] == [0.0, 0.0]
