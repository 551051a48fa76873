"""Parses overrides of a command line as Hydra understands them, without composing anything.

`rewards=graded` chooses an option if `rewards` is a config group, and sets a value if it is a key. Plain values are
passed to Hydra as `++key=value`, so that `r1exp.config.validation`, which knows the whole schema, refuses every
unknown key, with or without a sign.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, OverrideType, ValueType
from hydra.core.override_parser.types import Override as ParsedOverride
from hydra.errors import HydraException

from r1exp.config.names import hint_for
from r1exp.errors import Refused

READ_VARIABLE = "r1exp.env"  # resolver that reads an environment variable as a typed value would be read
_ENVIRONMENT = re.compile(r"\$\{oc\.env:([^{}]*)\}")
_BARE = re.compile(r"[^\s'\"()\[\]{}=\\]+")  # text without anything that the grammar gives a meaning
_SIGNS = {
    OverrideType.CHANGE: "",
    OverrideType.ADD: "+",
    OverrideType.FORCE_ADD: "++",
    OverrideType.DEL: "~",
}


# Keys for which a name, or a list of names, chooses options of a config group -> that group.
_CHOOSING = {"evaluation.suites": "suites"}
# Keys of a mapping for which a name is that of an option, which r1exp.config.suites replaces by its settings.
_NAMING = re.compile(
    r"evaluation\.suites\.[^.]+\.(dataset|prompt)|dataset\.parts\.[^.]+"
    r"|stage\.contamination\.against\.[^.]+\.dataset"
)


@dataclass(frozen=True)
class Override:
    """One override: its text, and what it refers to."""

    text: str  # as typed
    key: str  # dotted key, or group name
    sign: str  # "", "+", "++" or "~"
    is_group: bool
    is_sweep: bool
    file: str | None = None  # the experiment file that contains it; None: typed
    quoted: str | None = None  # the text with quotes that Hydra's grammar needs; None: it needs none
    set_by: str | None = None  # the key of the pipeline that sets it: pipeline.steps.NAME.set.KEY

    @property
    def head(self) -> str:
        """The first part of the key, which determines the steps that the override applies to."""
        return self.key.split(".")[0]

    @property
    def value(self) -> str:
        """The text after the equals sign; empty for a deletion."""
        return self.text.partition("=")[2]

    @property
    def is_plain(self) -> bool:
        """Whether it has none of the signs +, ++ and ~."""
        return not self.sign

    def for_hydra(self) -> str:
        """Return the text that is passed to Hydra."""
        return f"{self._hydra_sign()}{self._body()}"

    def for_step(self, prefix: str) -> str:
        """Return the text that is passed to Hydra for a step whose configuration is below `prefix`.

        Args:
            prefix: A folder of config groups, for example `step/sft`.
        """
        below = f"{prefix}/" if self.is_group else f"{prefix.replace('/', '.')}."
        return f"{self._hydra_sign()}{below}{self._body()}"

    def _hydra_sign(self) -> str:
        is_value = not self.is_group and not self.key.startswith("hydra.")
        return "++" if self.is_plain and is_value else self.sign

    def _body(self) -> str:
        body = (self.quoted or self.text).removeprefix(self.sign)
        key, _, value = body.partition("=")
        environment = _ENVIRONMENT.fullmatch(value)
        # `oc.env` returns text, also for a number.
        return body if environment is None else f"{key}=${{{READ_VARIABLE}:{environment[1]}}}"


def parse(arguments: Sequence[str], groups: Iterable[str]) -> list[Override]:
    """Return the overrides of a command line.

    Args:
        arguments: The command line, without verb and options.
        groups: The names of the config groups.

    Raises:
        Refused: an argument is not an override in Hydra's grammar.
    """
    known_groups = set(groups)
    overrides = []
    for text in arguments:
        readable = _readable(text)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise Refused(f"{text!r}: the argument is no UTF-8; type it in a terminal with that encoding")
        if text.lstrip("+~").startswith("="):
            raise Refused(f"{text!r} has no key before the equals sign; overrides look like key=value")
        try:
            (parsed,) = OverridesParser.create().parse_overrides([readable])
        except HydraException as error:
            raise Refused(_grammar_message(text, error, known_groups)) from error
        override = Override(
            text=text,
            quoted=None if readable == text else readable,
            key=parsed.key_or_group.replace("/", "."),
            sign=_SIGNS[parsed.type],
            is_group=parsed.key_or_group in known_groups,
            is_sweep=parsed.is_sweep_override(),
        )
        overrides.append(choosing(override))
    return overrides


def leaves(override: Override) -> list[Override]:
    """Return an override whose value is a mapping as one for each value in it, `a={b:{c:1}}` as `a.b.c=1`; any other alone."""
    if override.is_group or override.is_sweep or not override.value.lstrip().startswith("{"):
        return [override]
    (parsed,) = OverridesParser.create().parse_overrides([override.quoted or override.text])
    given = parsed.value()
    if not isinstance(given, dict) or not given:
        return [override]
    return [
        Override(
            f"{override.sign}{key}={quote(value)}",
            key,
            override.sign,
            is_group=False,
            is_sweep=False,
            file=override.file,
        )
        for key, value in flat(given, f"{override.key}.").items()
    ]


def flat(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping with dotted keys; empty mappings stay values."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def choosing(override: Override) -> Override:
    """Return an override whose value names options of a group as one that chooses them; any other unchanged."""
    group = _CHOOSING.get(override.key)
    value = (override.quoted or override.text).partition("=")[2].strip()
    if override.is_sweep or override.sign == "~" or value.startswith("{"):
        return override
    if _NAMING.fullmatch(override.key) and value not in ("", "null"):
        return replace(override, quoted=f"{override.sign}{override.key}.preset={value}")
    return (
        override
        if group is None
        else replace(override, key=group, sign="", is_group=True, quoted=f"{group}={value}")
    )


def expand(arguments: Sequence[str], loader: ConfigLoader) -> list[tuple[str, ...]]:
    """Return the overrides of each member of a sweep, as Hydra's basic sweeper expands them.

    Args:
        arguments: Overrides, some of which list several values.
        loader: Lists the options of a config group, for `glob(...)`.

    Raises:
        Refused: an interval, which needs a sweeper that optimizes.
    """
    combinations: list[tuple[str, ...]] = [()]
    for text in arguments:
        parsed = _parsed(text, loader)
        if not parsed.is_sweep_override():
            values = [text]
        elif parsed.is_interval_sweep():
            raise Refused(
                f"{text} is an interval, and hydra/sweeper=basic runs listed values only; list values "
                f"({text.partition('=')[0]}=1,2,3), or choose a sweeper that samples: hydra/sweeper=optuna"
            )
        else:
            values = [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]
        combinations = [(*combination, value) for combination in combinations for value in values]
    return combinations


def first_of(text: str, loader: ConfigLoader) -> str:
    """Return an override that lists values, or gives an interval, with the first value only."""
    parsed = _parsed(text, loader)
    if not parsed.is_sweep_override():
        return text
    if parsed.is_interval_sweep():
        value = parsed.value()
        assert isinstance(value, IntervalSweep)
        return f"{parsed.get_key_element()}={value.start}"
    return f"{parsed.get_key_element()}={next(iter(parsed.sweep_string_iterator()))}"


def listed_globs(text: str, loader: ConfigLoader) -> str:
    """Return an override with `glob(...)` replaced by the options that it matches."""
    parsed = _parsed(text, loader)
    if parsed.value_type != ValueType.GLOB_CHOICE_SWEEP:
        return text
    return f"{parsed.get_key_element()}=choice({','.join(parsed.sweep_string_iterator())})"


def _parsed(text: str, loader: ConfigLoader) -> ParsedOverride:
    """Return an override, in which a glob matches at least one option.

    Raises:
        Refused: a glob matches nothing.
    """
    parsed: ParsedOverride
    try:
        (parsed,) = OverridesParser.create(config_loader=loader).parse_overrides([_readable(text)])
    except HydraException as error:
        raise Refused(_grammar_message(text, error, ())) from error
    if parsed.value_type == ValueType.GLOB_CHOICE_SWEEP and not list(parsed.sweep_string_iterator()):
        options = loader.get_group_options(parsed.key_or_group)
        if not options:
            raise Refused(
                f"{text}: glob lists the options of a config group, and {parsed.key_or_group} is no config group"
            )
        raise Refused(f"{text} matches no option; {parsed.key_or_group} has: {', '.join(options)}")
    return parsed


def _readable(text: str) -> str:
    """Return an override with quotes around values that are not ASCII, which Hydra's grammar reads only in quotes."""
    key, equals, value = text.partition("=")
    if value.isascii() or not _BARE.fullmatch(value):
        return text
    return f"{key}{equals}" + ",".join(part if part.isascii() else quote(part) for part in value.split(","))


def _grammar_message(text: str, error: HydraException, groups: Iterable[str]) -> str:
    if "=" not in text:
        if text in groups:
            return f"{text} is a config group: type {text}=OPTION; `r1exp help {text}` lists its options"
        key, _, value = text.partition(":")
        if value or (text.isidentifier() and hint_for(text)):
            hint = hint_for(key)
            return f"{text!r} is no override; overrides look like {key}={value or '...'}. {hint}".rstrip()
        return (
            f"{text!r} is neither a verb nor an override. Overrides look like key=value or group=option; "
            "`r1exp --help` lists the verbs and groups."
        )
    first, *rest = str(error).splitlines()
    if rest and " while evaluating " in rest[0]:  # a function of the grammar, with its reason
        reason = rest[0].partition(": ")[2]
        known = f" {rest[1]}" if len(rest) > 1 and rest[1].startswith("Available") else ""
        return f"cannot read the override {text!r}: {reason}.{known}"
    return (
        f"cannot read the override {text!r}: {first}. "
        "Values with spaces, '=', '(' or ',' need quotes inside quotes: 'key=\"a, b\"'."
    )


def quote(value: Any) -> str:
    """Return `value` in Hydra's override grammar; parsing the text returns the same value."""
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
