"""Calls functions of program.py as another process asks for it. Runs in the sandbox of the submission.

Every line of standard input is a request, and every line of standard output its answer, as JSON (values as in
`encode`). The tests are in the other process, which is in another sandbox, so that the program can neither read
nor change them: it only sees the arguments of a call and decides what the call returns.
"""

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

kept: list[Any] = []  # objects that are not sent but named by their number


def encode(value: Any) -> Any:
    """Return a value as JSON: containers with a tag, and any other object as its number in `kept`."""
    if value is None or isinstance(value, bool | str):
        return value if value is None or isinstance(value, bool) else str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, list):
        return [encode(item) for item in value]
    for tag, kind in (("tuple", tuple), ("set", set), ("frozenset", frozenset)):
        if isinstance(value, kind):
            return {tag: [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    kept.append(value)
    return {"object": len(kept) - 1}


def decode(data: Any) -> Any:
    """Return the value that `encode` wrote."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    ((tag, inside),) = data.items()
    if tag == "object":
        return kept[inside]
    if tag == "name":
        return getattr(sys.modules["program"], inside)
    if tag == "dict":
        return {decode(key): decode(item) for key, item in inside}
    if tag == "bytes":
        return bytes.fromhex(inside)
    if tag == "complex":
        return complex(*inside)
    return {"tuple": tuple, "set": set, "frozenset": frozenset}[tag](decode(item) for item in inside)


def answer(request: dict[str, Any], program: types.ModuleType) -> Any:
    """Do what a request asks for and return the value."""
    target = getattr(program, request["name"]) if "name" in request else kept[request["object"]]
    do = request["do"]
    if do == "call":
        return target(*decode(request["args"]), **{key: decode(item) for key, item in request["named"]})
    if do == "attribute":
        return getattr(target, request["attribute"])
    if do == "item":
        return target[decode(request["key"])]
    if do == "list":
        return list(target)
    return len(target) if do == "length" else str(target)


def main() -> None:
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.dup(1)
    os.dup2(2, 1)  # what the program prints is no answer
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    program = types.ModuleType("program")
    sys.modules["program"] = program
    source = Path(__file__).with_name("program.py").read_text(encoding="utf-8")
    exec(compile(source, "program.py", "exec"), program.__dict__)
    for line in requests:
        try:
            reply = {"value": encode(answer(json.loads(line), program))}
        except Exception as error:  # noqa: BLE001 the tests decide what it means
            reply = {"error": type(error).__name__, "text": str(error)[:500]}
        data = json.dumps(reply).encode() + b"\n"
        while data:
            data = data[os.write(answers, data) :]
    os._exit(0)


main()
