"""Compares the verdicts of rewards.function_call with those of BFCL's own check of syntax trees.

    python -m venv /tmp/reference && /tmp/reference/bin/pip install --no-deps bfcl-eval
    python benchmarks/bfcl_agreement.py /tmp/reference/lib/python3.11/site-packages [--differences]

Takes every Python problem of BFCL v4 with one turn, writes gold calls from the accepted values and 12 mutations of them (a
value, a type, a name or an argument changed, left out or added, calls repeated, left out or in another order), and prints
on how many both agree.
"""

import copy
import json
import random
import sys
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context
from r1exp.rewards.function_call import FunctionCall

CATEGORIES = [
    "simple_python", "multiple", "parallel", "parallel_multiple",
    "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple",
]  # fmt: skip
Calls = list[dict[str, dict[str, Any]]]  # BFCL's form: [{name: {argument: value}}]


def chosen(rng: random.Random, accepted: Any) -> Any:
    """Return one of the accepted values; nested objects hold lists of accepted values too."""
    value = rng.choice([option for option in accepted if option != ""] or [""])
    return inner(rng, value)


def inner(rng: random.Random, value: Any) -> Any:
    """Return a value with one of the accepted values of each key."""
    if isinstance(value, dict) and all(isinstance(options, list) for options in value.values()):
        kept = {key: options for key, options in value.items() if "" not in options or rng.random() < 0.5}
        return {key: chosen(rng, options) for key, options in kept.items()}
    return [inner(rng, item) for item in value] if isinstance(value, list) else value


def gold(rng: random.Random, truth: list[dict[str, Any]]) -> Calls:
    """Return right calls; optional arguments are left out now and then."""
    calls = []
    for item in truth:
        name, arguments = next(iter(item.items()))
        kept = {key: options for key, options in arguments.items() if "" not in options or rng.random() < 0.5}
        calls.append({name: {key: chosen(rng, options) for key, options in kept.items()}})
    return calls


def mutations(rng: random.Random, calls: Calls) -> Iterator[tuple[str, Calls]]:
    """Yield changed calls; some changes leave them right."""
    for what in (
        "gold", "value", "text for number", "float for integer", "boolean", "case", "punctuation", "left out", "added",
        "name", "twice", "shuffled", "one less",
    ):  # fmt: skip
        changed = copy.deepcopy(calls)
        _, arguments = next(iter(rng.choice(changed).items()))
        key = rng.choice(list(arguments)) if arguments else None
        if what == "twice":
            changed.append(copy.deepcopy(changed[0]))
        elif what == "shuffled":
            rng.shuffle(changed)
        elif what == "one less":
            changed.pop()
        elif what == "added":
            arguments["no_such_argument"] = 1
        elif what == "name":
            changed[0] = {f"{next(iter(changed[0]))}_x": next(iter(changed[0].values()))}
        elif what != "gold" and key is not None:
            arguments[key] = mutated(what, arguments[key])
            if what == "left out":
                del arguments[key]
        if changed:
            yield what, changed


def mutated(what: str, value: Any) -> Any:
    """Return a value that is changed in one way, where it can be."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if what == "value":
        return value + 1 if is_number else f"{value}x" if isinstance(value, str) else value
    if what == "text for number":
        return str(value) if is_number else value
    if what == "float for integer":
        return float(value) if is_number else value
    if what == "boolean":
        return bool(value) if is_number else int(value) if isinstance(value, bool) else value
    if what == "case":
        return value.upper() if isinstance(value, str) else value
    if what == "punctuation":
        return value.replace(" ", "-") if isinstance(value, str) else value
    return value


def checker(folder: str) -> Any:
    """Return BFCL's `ast_checker`, without the clients of models that its package imports."""
    sys.path.append(folder)
    models = types.ModuleType("bfcl_eval.constants.model_config")
    models.MODEL_CONFIG_MAPPING = {"m": types.SimpleNamespace(underscore_to_dot=False)}  # type: ignore[attr-defined] # a stub
    sys.modules[models.__name__] = models
    from bfcl_eval.constants.enums import Language  # type: ignore[import-not-found] # of the reference
    from bfcl_eval.eval_checker.ast_eval.ast_checker import (  # type: ignore[import-not-found] # of the reference
        ast_checker,
    )

    return lambda functions, calls, truth, category: ast_checker(
        functions, calls, truth, Language.PYTHON, category, "m"
    )["valid"]


def main() -> None:
    """Print the agreement by category."""
    rng = random.Random(0)
    reference = checker(sys.argv[1])
    reward = FunctionCall(style="plain", read="whole", functions="function")
    same: Counter[str] = Counter()
    total: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for category in CATEGORIES:
        folder = Path(sys.argv[1]) / "bfcl_eval" / "data"
        name = f"BFCL_v4_{category}.json"
        truths = {
            row["id"]: row["ground_truth"]
            for row in map(json.loads, (folder / "possible_answer" / name).read_text().splitlines())
        }
        for row in map(json.loads, (folder / name).read_text().splitlines()):
            truth = truths[row["id"]]
            problem = Problem(
                row["id"],
                "?",
                None,
                {"ground_truth": json.dumps(truth), "function": json.dumps(row["function"])},
            )
            for what, calls in mutations(rng, gold(rng, truth)):
                theirs = bool(reference(row["function"], copy.deepcopy(calls), truth, category))
                listed = [
                    {"name": name, "arguments": arguments}
                    for call in calls
                    for name, arguments in call.items()
                ]
                mine = reward.score(problem, Completion(json.dumps(listed), 1), Context()) == 1.0
                total[category] += 1
                right[category] += theirs
                same[category] += mine == theirs
                if mine != theirs and "--differences" in sys.argv:
                    print(json.dumps([row["id"], what, {"own": mine, "reference": theirs}, calls, truth]))
    for category in CATEGORIES:
        print(
            f"{category:24s} {same[category]:6d} of {total[category]:6d}   right {right[category] / total[category]:.0%}"
        )
    print(f"{'all':24s} {same.total():6d} of {total.total():6d}: {same.total() / total.total():.2%}")


if __name__ == "__main__":
    main()
