"""Words of a command line as Hydra understands them, without composing anything.

`rewards=graded` is a choice when `rewards` is a config group and a value when it is a key.
Plain value words are handed on as `++key=value`, so that every unknown key, whichever way it
came, is refused by one check (`r1exp.config.validation`) that knows the whole schema.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException

from r1exp.errors import Refused


@dataclass(frozen=True)
class Word:
    """One override: what was typed, the key or group it names, and what kind of word it is."""

    text: str
    key: str  # dotted key, or group name
    is_group: bool
    is_plain: bool  # neither +, ++ nor ~
    is_sweep: bool
    said_in: str | None = None  # the experiment file that says it; null: typed

    @property
    def head(self) -> str:
        """The first segment of the key: what decides how far the word reaches."""
        return self.key.split(".")[0]

    @property
    def value(self) -> str:
        """The text behind the equals sign; empty for a deletion."""
        return self.text.partition("=")[2]

    def for_hydra(self) -> str:
        """Return the word as it is handed to Hydra."""
        if self.is_plain and not self.is_group and not self.key.startswith("hydra."):
            return f"++{self.text}"
        return self.text


def parse(texts: Sequence[str], groups: Iterable[str]) -> list[Word]:
    """Return the words of a command line.

    Raises:
        Refused: a word is no override in Hydra's grammar.
    """
    known_groups = set(groups)
    words = []
    for text in texts:
        try:
            (override,) = OverridesParser.create().parse_overrides([text])
        except HydraException as error:
            raise Refused(_grammar_message(text, error)) from error
        key = override.key_or_group.replace("/", ".")
        words.append(
            Word(
                text=text,
                key=key,
                is_group=override.key_or_group in known_groups,
                is_plain=override.type == OverrideType.CHANGE,
                is_sweep=override.is_sweep_override(),
            )
        )
    return words


def _grammar_message(text: str, error: HydraException) -> str:
    if "=" not in text:
        return (
            f"{text!r} is no verb and no override. Overrides look like key=value or group=option; "
            "`r1exp --help` lists the verbs and groups."
        )
    reason = str(error).splitlines()[0]
    return (
        f"cannot read the override {text!r}: {reason}. "
        "Values with spaces, '=', '(' or ',' need quotes inside quotes: 'key=\"a, b\"'."
    )


def quote(value: Any) -> str:
    """Return `value` in Hydra's override grammar, such that parsing gives the same value back."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(quote(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{quote(item)}" for key, item in value.items()) + "}"
    text = str(value)
    escaped = text.replace("\\'", "\\\\'").replace("'", "\\'")
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"
