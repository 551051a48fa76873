"""`r1exp plan [-m] [--full|--launch|--yaml] [device=CARD [devices=N]] overrides...`: shows what `run` would do.

`--from`, `--until` and `--only` are those of `run`.

One screen without an option. `device=` and `devices=` are words of this verb, and no keys of the configuration: they
describe the machine that the plan is made for, and change no result.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import get_args

from r1exp.errors import ExitCode, Refused
from r1exp.plan.devices import given_hardware
from r1exp.plan.show import View, plan_text
from r1exp.terminal import show
from r1exp.verbs.options import parse_options

_VIEWS = {f"--{view}": view for view in get_args(View) if view != "screen"}
_WORDS = ("device", "devices")
_WIDTH = 120  # characters, where there is no terminal


def main(arguments: Sequence[str]) -> ExitCode:
    """Show the plan of a command line."""
    views, words, rest = _separated(arguments)
    if len(views) > 1:
        raise Refused(f"{' and '.join(views)} each show something else; give one of them")
    options = parse_options(rest, takes_range=True)
    is_terminal = sys.stdout.isatty()
    text = plan_text(
        options.overrides,
        is_multirun=options.is_multirun,
        config_dirs=options.config_dirs,
        span=options.span,
        view=_VIEWS[views[0]] if views else "screen",
        given=given_hardware(words.get("device"), words.get("devices")),
        width=shutil.get_terminal_size((_WIDTH, 40)).columns if is_terminal else _WIDTH,
        colors=is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
    )
    show(text, end="")
    return ExitCode.DONE


def _separated(arguments: Sequence[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """Return the views, the words `device` and `devices` with their values, and the other arguments.

    Raises:
        Refused: --device or --devices without a value.
    """
    views: list[str] = []
    words: dict[str, str] = {}
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        word = name.removeprefix("--")
        if argument in _VIEWS:
            views.append(argument)
        elif word in _WORDS and equals:
            words[word] = value
        elif argument in ("--device", "--devices"):
            given = next(rest, None)
            if given is None:
                raise Refused(f"{argument} needs a value: --device h100 --devices 8")
            words[word] = given
        else:
            others.append(argument)
    return views, words, others
