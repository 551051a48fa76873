"""Describes the trainer's arguments with the documentation of TRL and transformers, without importing torch.

`trainer_help.json` is generated from the docstrings of the installed TRL by `python -m r1exp.algorithm.trainer_help`. The
texts are theirs (Apache License 2.0), cut to their first sentences. A test compares the names with the installed version.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from r1exp.algorithm.trainer_fields import fields_of
from r1exp.files import write_json
from r1exp.terminal import say

_FILE = Path(__file__).with_suffix(".json")
_CLASSES = (
    "GRPOConfig",
    "RLOOConfig",
    "DPOConfig",
    "KTOConfig",
    "SFTConfig",
    "RewardConfig",
    "DistillationConfig",
)
_ENTRY = re.compile(r"^(\w+) ?\((.*)\):$")  # name (`type`, *optional*, defaults to `value`):
_LONG = 240  # characters, after which no further sentence is added
# Arguments that neither docstring explains.
_OWN = {
    "accelerator_config": "The settings of accelerate's Accelerator, as a file or a mapping.",
}


@cache
def _table() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return table


def trainer_help(name: str) -> str | None:
    """Return what an argument of the trainers is, or None if there is no such argument."""
    entry = _table().get(name)
    return None if entry is None else str(entry["help"])


def trainer_defaults(name: str) -> dict[str, Any]:
    """Return the default of an argument in each trainer class that has it, as JSON values."""
    entry = _table().get(name)
    return {} if entry is None else dict(entry["defaults"])


def trainer_classes(name: str) -> list[str]:
    """Return the trainer classes that have an argument."""
    return [trainer_class for trainer_class in _CLASSES if name in fields_of(trainer_class)]


def sentences(text: str) -> str:
    """Return the first sentences of a text, on one line; lists that follow are left out."""
    flat = re.sub(r"\s+", " ", re.split(r"\n\s*(?:[-*>]|```|\n)", text.strip())[0]).strip()
    flat = re.sub(
        r"\[`~?(?:[\w.]+\.)?(\w+)`\]|\[([^\]]+)\]\([^)]*\)", lambda found: found[1] or found[2], flat
    )
    flat = flat.replace("**", "").replace("`", "")
    parts = re.split(r"(?<=[.!?]) (?=[A-Z])", flat)
    chosen = parts[0]
    for part in parts[1:]:
        if len(chosen) + len(part) > _LONG:
            break
        chosen = f"{chosen} {part}"
    return chosen.rstrip(":") + ("" if chosen.rstrip(":").endswith((".", "!", "?")) else ".")


def documented(docstring: str) -> dict[str, str]:
    """Return the description of each parameter in a docstring of transformers' form."""
    found: dict[str, list[str]] = {}
    current, indent = "", 0
    for line in docstring.splitlines():
        stripped = line.strip()
        entry = _ENTRY.match(stripped)
        width = len(line) - len(line.lstrip())
        if entry and (not current or width <= indent):
            current, indent = entry[1], width
            found[current] = []
        elif current and stripped and width <= indent:
            current = ""
        elif current:
            found[current].append(line)
    return {name: sentences("\n".join(lines)) for name, lines in found.items() if "".join(lines).strip()}


def generate() -> dict[str, dict[str, Any]]:
    """Return the table of the installed dataclasses. Imports TRL, and so torch."""
    import dataclasses

    import trl

    table: dict[str, dict[str, Any]] = {}
    for trainer_class in _CLASSES:
        config = getattr(trl, trainer_class)
        texts: dict[str, str] = {}
        for ancestor in reversed(config.__mro__):
            texts |= documented(ancestor.__doc__ or "")
        for field in dataclasses.fields(config):
            if not field.init:
                continue
            text = _OWN.get(field.name) or texts.get(field.name) or field.metadata.get("help")
            entry = table.setdefault(field.name, {"help": "", "defaults": {}})
            entry["help"] = entry["help"] or sentences(text or "")
            if field.default is not dataclasses.MISSING:
                entry["defaults"][trainer_class] = _plain(field.default)
    return table


def _plain(value: Any) -> Any:
    """Return a default as a JSON value."""
    value = getattr(value, "value", value)
    return value if isinstance(value, bool | int | float | str | type(None)) else str(value)


if __name__ == "__main__":
    write_json(_FILE, generate())
    say(f"wrote {_FILE}")
