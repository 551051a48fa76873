"""`r1exp help [KEY|GROUP|GROUP=OPTION|VERB]`: explains a key, a config group, an option or a verb."""

import textwrap
from collections.abc import Sequence

from r1exp.config.compose import groups, search_path_of, session, text_of_option
from r1exp.config.describe import (
    ANY,
    allowed,
    chosen_options,
    declarations,
    every_key,
    meaning,
    option_purpose,
    readers,
    value_now,
)
from r1exp.config.experiment import Experiment, experiment_from
from r1exp.config.names import hint_for
from r1exp.config.overrides import flat
from r1exp.config.validation import nearest_key
from r1exp.errors import ExitCode, Refused
from r1exp.settings import nearest
from r1exp.terminal import show
from r1exp.verbs.menu import VERBS, command_help
from r1exp.verbs.options import parse_options

_WIDTH = 100  # characters


def main(arguments: Sequence[str]) -> ExitCode:
    """Explain what the first argument names; overrides after it choose the configuration that is described.

    Raises:
        Refused: there is no such key, group, option or verb.
    """
    options = parse_options(arguments)
    if not options.overrides:
        show(command_help(arguments), end="")
        return ExitCode.DONE
    topic, *rest = options.overrides
    folders, overrides = search_path_of(rest)
    with session(options.config_dirs, folders):
        if topic in VERBS and not rest:
            taken, text = VERBS[topic]
            show(f"r1exp {topic} {taken}".rstrip() + f"\n  {text}")
            if topic not in groups():
                return ExitCode.DONE
        group, is_option, option = topic.partition("=")
        if is_option and group in groups():
            show(_option_text(group, option), end="")
        else:
            show(_text(topic if not is_option else group, experiment_from(overrides)), end="")
    return ExitCode.DONE


def _text(key: str, experiment: Experiment) -> str:
    if key in groups():
        return _group_text(key, experiment)
    if not (key in flat(experiment.composition.values) or _is_key(key)):
        raise Refused(_unknown(key, experiment))
    rows = [
        ("values", allowed(key)),
        ("now", value_now(key, experiment)),
        ("read by", readers(key)),
    ]
    lines = [
        key,
        *textwrap.wrap(meaning(key, experiment), _WIDTH, initial_indent="  ", subsequent_indent="  "),
    ]
    for name, text in rows:
        if text:
            lines += textwrap.wrap(
                f"{name + ':':<9}{text}", _WIDTH, initial_indent="  ", subsequent_indent=" " * 11
            )
    below = sorted(known for known in _known(experiment) if known.startswith(f"{key}."))
    if below:
        lines += ["  keys below it:", *(f"    {known}" for known in below)]
    return "\n".join(lines) + "\n"


def _group_text(group: str, experiment: Experiment) -> str:
    lines = [f"{group}=OPTION", f"  {meaning(group, experiment)}", "  options:"]
    chosen = chosen_options(group, experiment)
    width = max(len(option) for option in groups()[group])
    for option in groups()[group]:
        mark = "*" if option in chosen else " "
        head = f"  {mark} {option:<{width}}  "
        lines += textwrap.wrap(
            option_purpose(group, option), _WIDTH, initial_indent=head, subsequent_indent=" " * len(head)
        ) or [head.rstrip()]
    keys = sorted(key for key in _known(experiment) if key.startswith(f"{group}."))
    if keys:
        lines += ["  keys (r1exp help KEY explains each):"]
        lines += textwrap.wrap("  ".join(keys), _WIDTH, initial_indent="    ", subsequent_indent="    ")
    if chosen:
        lines.append("  * chosen now")
    return "\n".join(lines) + "\n"


def _option_text(group: str, option: str) -> str:
    """Return the file of an option, whose comments explain it."""
    if option not in groups()[group]:
        close = nearest(option, groups()[group])
        hint = f" Did you mean {group}={close[0]}?" if close else ""
        raise Refused(f"{group}={option}: no such option.{hint} {group} has: {', '.join(groups()[group])}")
    return text_of_option(group, option)


def _is_key(key: str) -> bool:
    return bool(declarations(key)) or key in every_key()


def _known(experiment: Experiment) -> set[str]:
    return {*flat(experiment.composition.values), *every_key()} - {""}


def _unknown(key: str, experiment: Experiment) -> str:
    """Return the refusal of a key that does not exist, with the nearest one."""
    hint = hint_for(key)
    if hint:
        return f"{key}: there is no such key. {hint}"
    close = nearest_key(key, sorted([*_known(experiment), *groups(), *VERBS]))
    suggestion = f" Did you mean `r1exp help {close}`?" if close else ""
    named = f" Names of mappings are written as {ANY}: rewards.{ANY}.weight." if "." in key else ""
    return f"{key}: there is no such key, group or verb.{suggestion}{named}"
