"""Scores 1 if a completion calls the right functions with the right arguments, else 0.

The rules are those of the Berkeley Function Calling Leaderboard's check of syntax trees (BFCL, Patil et al., 2025;
`ast_checker`):

    names      each call names a function of the gold calls; `.` may be written `_`, as OpenAI's API demands
    arguments  no unknown one, all required ones; an optional one may be missing where "" is among its accepted values
    types      as the function's description says, or as an accepted value is: true is no integer, 5.0 no integer, 5 a float
    values     one of the accepted ones; texts are compared without case, spaces and , . / - _ * ^
    parallel   as many calls as gold has, in any order

The column of gold calls holds BFCL's ground truth, [{"f": {"a": [1, 2], "unit": ["m", ""]}}] with the accepted values of each
argument, or exact calls, [{"name": "f", "arguments": {"a": 1}}]. An empty list means that no function fits: a reply without
any call is right. Both columns may hold JSON text. `r1exp.rewards.calls` reads the calls of a completion.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from r1exp.prompt.settings import StyleName
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, UNREADABLE_GOLD, Abstain, Context, Reward, Score, Span
from r1exp.rewards.calls import Call, Notation, attempts_a_call, calls_in
from r1exp.rewards.reading import Read, column_as_json, reply_in
from r1exp.settings import Name

UNREADABLE_FUNCTIONS: Final = Abstain("function descriptions unreadable")
_IGNORED: Final = re.compile(r"[ ,./\-_*^]")
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,), "str": (str,), "integer": (int,), "int": (int,), "float": (float, int), "number": (float, int),
    "double": (float, int), "boolean": (bool,), "bool": (bool,), "array": (list,), "list": (list,), "tuple": (list,),
    "object": (dict,), "dict": (dict,), "null": (type(None),),
}  # fmt: skip
_NO_CALL: Final = "None of the functions can do this."


@dataclass(frozen=True, slots=True)
class GoldCall:
    """A call that must be made: for each argument the values that are accepted."""

    name: str
    accepted: dict[str, list[Any]]
    is_exact: bool  # nested objects hold values, not lists of accepted ones


class FunctionCall(Reward):
    """Compares the function calls of a completion with those of a column."""

    kind: Literal["function_call"] = "function_call"
    style: StyleName  # decides where the calls are read
    read: Read = "style"  # style: the answer's place; whole: all that follows the reasoning
    notation: Notation = "any"  # in which calls must be written
    gold: Name = "ground_truth"  # column of the gold calls
    functions: Name | None = (
        None  # column of the functions' descriptions; null: types are those of the gold values
    )
    texts: Literal["loose", "exact"] = "loose"  # loose: without case, spaces and , . / - _ * ^, as in BFCL
    judges_correctness: ClassVar[bool] = True

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del context
        if problem.columns.get(self.gold) is None:
            return NO_GOLD
        try:
            golds = gold_calls(column_as_json(problem, self.gold))
        except ValueError:
            return UNREADABLE_GOLD
        try:
            schemas = _schemas(None if self.functions is None else column_as_json(problem, self.functions))
        except ValueError:
            return UNREADABLE_FUNCTIONS
        reply = reply_in(completion.text, self.style, self.read)
        if reply is None:
            return 0.0
        if not golds:
            return float(not attempts_a_call(reply))
        calls = calls_in(reply, self.notation)
        if calls is None or len(calls) != len(golds):
            return 0.0
        fits = [[self._fits(call, gold, schemas.get(gold.name, {})) for gold in golds] for call in calls]
        return float(_can_be_paired(fits))

    def gold_answer(self, problem: Problem) -> str | None:
        """Return the gold calls in the notation that is asked for, Hermes' by default."""
        try:
            golds = gold_calls(column_as_json(problem, self.gold))
        except ValueError:
            return None
        calls = [
            Call(gold.name, {key: _first(values, gold.is_exact) for key, values in gold.accepted.items()})
            for gold in golds
        ]
        return written(calls, self.notation) if calls else _NO_CALL

    def cheats(self, problem: Problem) -> dict[str, str]:
        """Return the gold calls without arguments, and twice."""
        gold = self.gold_answer(problem)
        calls = None if gold is None else calls_in(gold, self.notation)
        if not calls:
            return {}
        bare = [Call(call.name, {}) for call in calls]
        cheats = {"calls made twice": written([*calls, *calls], self.notation)}
        if any(call.arguments for call in calls):
            cheats["calls without arguments"] = written(bare, self.notation)
        return cheats

    def _fits(self, call: Call, gold: GoldCall, schema: dict[str, Any]) -> bool:
        """Return whether a call is the gold call."""
        if call.name not in (gold.name, gold.name.replace(".", "_")):
            return False
        if any(name not in call.arguments for name in _required(schema)):
            return False
        if any(name not in call.arguments and "" not in values for name, values in gold.accepted.items()):
            return False
        types = _properties(schema)
        return all(
            name in gold.accepted
            and _has_type(value, types.get(name), gold.accepted[name])
            and any(self._same(value, option, gold.is_exact) for option in gold.accepted[name])
            for name, value in call.arguments.items()
        )

    def _same(self, value: Any, gold: Any, is_exact: bool) -> bool:
        if isinstance(gold, str) and isinstance(value, str):
            return value == gold or (self.texts == "loose" and _loose(value) == _loose(gold))
        if isinstance(gold, list) and isinstance(value, list):
            return len(value) == len(gold) and all(
                self._same(a, b, is_exact) for a, b in zip(value, gold, strict=True)
            )
        if isinstance(gold, dict) and isinstance(value, dict):
            if any(key not in gold for key in value):
                return False
            options = {key: [item] if is_exact else _listed(item) for key, item in gold.items()}
            return all(
                any(self._same(value[key], option, is_exact) for option in accepted)
                if key in value
                else not is_exact and "" in accepted
                for key, accepted in options.items()
            )
        if isinstance(gold, bool) or isinstance(value, bool):
            return gold is value
        if isinstance(gold, int | float) and isinstance(value, int | float):
            return value == gold
        return gold is None and value is None


def gold_calls(value: Any) -> list[GoldCall]:
    """Return the calls of the gold column's value.

    Raises:
        ValueError: it is neither BFCL's ground truth nor a list of calls.
    """
    items = value if isinstance(value, list) else [value]
    found = []
    for item in items:
        if not isinstance(item, dict):
            raise ValueError("a gold call must be an object")
        if isinstance(item.get("function"), dict):
            item = item["function"]
        if isinstance(item.get("name"), str) and "arguments" in item:
            arguments = item["arguments"]
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            if not isinstance(arguments, dict):
                raise ValueError("the arguments of a gold call must be an object")
            found.append(GoldCall(item["name"], {key: [one] for key, one in arguments.items()}, True))
        elif len(item) == 1 and isinstance(accepted := next(iter(item.values())), dict):
            found.append(
                GoldCall(next(iter(item)), {key: _listed(one) for key, one in accepted.items()}, False)
            )
        else:
            raise ValueError(
                'a gold call must be {"f": {"a": [...]}} or {"name": "f", "arguments": {"a": ...}}'
            )
    return found


def written(calls: list[Call], notation: Notation) -> str:
    """Return calls in a notation."""
    if notation == "python":
        parts = [
            f"{call.name}({', '.join(f'{key}={value!r}' for key, value in call.arguments.items())})"
            for call in calls
        ]
        return f"[{', '.join(parts)}]"
    key = "parameters" if notation == "llama" else "arguments"
    objects = [json.dumps({"name": call.name, key: call.arguments}, ensure_ascii=False) for call in calls]
    if notation == "openai":
        return f"[{', '.join(objects)}]"
    if notation == "llama":
        return "; ".join(objects)
    return "\n".join(f"<tool_call>{each}</tool_call>" for each in objects)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _first(accepted: list[Any], is_exact: bool) -> Any:
    """Return the first accepted value, with the first of those of its keys."""
    value = next((option for option in accepted if option != ""), "")
    return value if is_exact else _chosen(value)


def _chosen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _first(_listed(item), False) for key, item in value.items()}
    return [_chosen(item) for item in value] if isinstance(value, list) else value


def _loose(text: str) -> str:
    return _IGNORED.sub("", text).lower().replace("'", '"')


def _schemas(value: Any) -> dict[str, dict[str, Any]]:
    """Return the description of the parameters of each function."""
    found = {}
    for item in [] if value is None else _listed(value):
        if isinstance(item, dict) and isinstance(item.get("function"), dict):
            item = item["function"]
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise ValueError("a description must have a name")
        parameters = item.get("parameters")
        found[item["name"]] = parameters if isinstance(parameters, dict) else {}
    return found


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a function by name; xLAM's descriptions have them without `properties`."""
    properties = schema.get("properties", schema)
    return properties if isinstance(properties, dict) else {}


def _required(schema: dict[str, Any]) -> list[str]:
    required = schema.get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def _has_type(value: Any, schema: Any, golds: list[Any]) -> bool:
    """Return whether a value has the type that its description gives, else that of a gold value."""
    names = _listed(schema.get("type")) if isinstance(schema, dict) else []
    known = [kind for name in names if isinstance(name, str) for kind in _TYPES.get(name.lower(), ())]
    if not known:  # the values decide, except that 5.0 equals 5
        return not isinstance(value, float) or any(isinstance(gold, float) for gold in golds)
    if any(type(value) is type(gold) for gold in golds if gold != ""):
        return True  # such as null, or the name of a variable where a number is described
    if isinstance(value, bool):
        return bool in known
    if not isinstance(value, tuple(known)):
        return False
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return all(_has_type(item, schema["items"], value) for item in value)
    return True


def _can_be_paired(fits: list[list[bool]]) -> bool:
    """Return whether each call can be paired with a gold call of its own (augmenting paths)."""
    call_of: dict[int, int] = {}  # gold call -> call

    def pair(call: int, seen: set[int]) -> bool:
        for gold, fit in enumerate(fits[call]):
            if fit and gold not in seen:
                seen.add(gold)
                if gold not in call_of or pair(call_of[gold], seen):
                    call_of[gold] = call
                    return True
        return False

    return all(pair(call, set()) for call in range(len(fits)))
