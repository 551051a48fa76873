"""Entry point of the command `r1exp [verb] arguments...`. Never imports torch.

The default verb is `run`. To add a verb, write its file in `r1exp/verbs/` and add its line to `VERBS`.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from r1exp.errors import ExitCode, Interrupted, R1ExpError, Refused
from r1exp.settings import nearest
from r1exp.terminal import say, show

VERBS = {  # verb: (its arguments, what it does)
    "run": (
        "[-m] overrides...",
        "compose, check, run; with -m one run for each combination of listed values",
    ),
    "plan": (
        "[-m] overrides...",
        "show what `run` would do on one screen; --full, --launch, --yaml; device=h100 devices=8",
    ),
    "check": ("overrides...", "score gold and adversarial answers with the rewards before training"),
    "sweep": (
        "status|retry|report DIR",
        "show the state of each run of a multirun, restart failed runs, rank the runs",
    ),
    "new": ("KIND NAME", "write a reward, dataset, prompt, algorithm or experiment of your own"),
    "doctor": ("", "show what is installed, and what is missing for which feature"),
}
_EXAMPLES = """\
  r1exp                                       the quickstart: a tiny model on a CPU, minutes
  r1exp rewards=vote_partial beta=0.01        change the reward and the KL penalty
  r1exp -m rewards.graded.weight=0,1 seed=1,2 four runs, compared
  r1exp debug=fast                            every step shortened to a few optimizer steps

Options: -m/--multirun, --config-dir DIR (a folder with config groups of your own), --help, --version.
Exit codes: 0 done, 2 refused before running, 3 failed, 4 stopped by health, 75 preempted, 130 interrupted.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    # As with `python -m`: modules in the current folder can be imported, here and by the workers.
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
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
        hint = f" Did you mean {close[0]}?" if close else ""
        raise Refused(f"{verb!r} is neither a verb nor an override.{hint} Verbs: {', '.join(VERBS)}.")
    if {"-h", "--help"} & set(rest):
        show(_help(rest), end="")
        return ExitCode.DONE
    code: ExitCode = import_module(f"r1exp.verbs.{verb}").main(rest)
    return code


def _help(arguments: Sequence[str]) -> str:
    from r1exp.config.compose import groups, search_path_of, session
    from r1exp.verbs.options import parse_options

    lines = ["r1exp: experiments in R1-style post-training, one command each.\n\n"]
    for verb, (taken, text) in VERBS.items():
        call = f"r1exp {'[run]' if verb == 'run' else verb} {taken}".rstrip()
        lines.append(f"  {call:<36} {text}\n")
    lines += ["\n", _EXAMPLES, "\n", "Groups and their options:\n"]
    options = parse_options(arguments)
    with session(options.config_dirs, search_path_of(options.overrides)[0]):
        lines += [f"  {name}: {', '.join(found)}\n" for name, found in groups().items()]
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
