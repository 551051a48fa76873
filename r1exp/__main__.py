"""Entry point of the command `r1exp [verb] arguments...`. Never imports torch. The default verb is `run`."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn

from r1exp.addresses import reach_private_directly
from r1exp.errors import ExitCode, Interrupted, R1ExpError, Refused
from r1exp.files import provide_cache, why_not_written
from r1exp.settings import nearest
from r1exp.terminal import say, show
from r1exp.verbs.menu import VERBS, command_help
from r1exp.verbs.options import is_hydra_flag


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    try:
        here = _working_directory()
        # As with `python -m`: modules in the current folder can be imported, here and by the workers.
        if here not in sys.path:
            sys.path.insert(0, here)
        _handle_sigterm()
        provide_cache()
        reach_private_directly(os.environ)
        return int(_dispatch(list(sys.argv[1:] if arguments is None else arguments)))
    except (Interrupted, KeyboardInterrupt):
        say("r1exp: interrupted")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:  # `r1exp plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.DONE)
    except R1ExpError as error:
        say(f"r1exp: {error}")
        return int(error.exit_code)
    except OSError as error:  # a full disk, a file that may not be read
        say(f"r1exp: {why_not_written(error, Path.cwd())}")
        return int(ExitCode.FAILED)


def _working_directory() -> str:
    """Return the directory in which the command was typed.

    Raises:
        Refused: it was deleted.
    """
    try:
        return os.getcwd()  # noqa: PTH109 - sys.path holds strings
    except FileNotFoundError as error:
        raise Refused(
            "the directory in which this was typed has been deleted; change to another one with cd"
        ) from error


def _handle_sigterm() -> None:
    """Let SIGTERM end the command as Ctrl-C does, also where it is process 1, for which the kernel's default is to ignore it.

    While a run is executed, `r1exp.runner.signals` handles it.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise Interrupted(f"ended by {signal.Signals(number).name}")

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)


def _dispatch(arguments: list[str]) -> ExitCode:
    if "--version" in arguments:
        from r1exp import __version__

        show(f"r1exp {__version__}")
        return ExitCode.DONE
    verb, rest = "run", arguments
    if arguments and "=" not in arguments[0] and not arguments[0].startswith(("-", "+", "~")):
        verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        close = nearest(verb, VERBS)
        hint = f" Did you mean {close[0]}?" if close else _as_key(verb)
        raise Refused(f"{verb!r} is neither a verb nor an override.{hint} Verbs: {', '.join(VERBS)}.")
    if {"-h", "--help"} & set(rest):
        own = getattr(import_module(f"r1exp.verbs.{verb}"), "HELP", None)
        show(own or command_help(rest), end="")
        return ExitCode.DONE
    if verb in ("run", "plan") and any(map(is_hydra_flag, rest)):
        verb = "hydra_flags"
    code: ExitCode = import_module(f"r1exp.verbs.{verb}").main(rest)
    return code


def _as_key(word: str) -> str:
    """Return a sentence for a word that names a config group or a key, and has no value."""
    from r1exp.config.compose import groups, session
    from r1exp.config.names import hint_for

    with session():
        if word in groups():
            return f" {word} is a config group: type {word}=OPTION, or `r1exp help {word}`, which lists its options."
    return f" {hint}" if (hint := hint_for(word)) else ""


if __name__ == "__main__":
    sys.exit(main())
