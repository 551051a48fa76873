"""The parent's door: `r1exp [verb] overrides...`. Never imports torch.

Without a verb it is `run`. Hydra reads the overrides, expands sweeps and lists the groups; every
run of a sweep is composed and checked before the first one starts.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from r1exp.errors import ExitCode, Interrupted, R1ExpError, Refused
from r1exp.settings import nearest

VERBS = ("run", "plan", "check", "sweep", "doctor")
_HELP = """\
r1exp: experiments in R1-style post-training, one command each.

  r1exp [run] [-m] overrides...    compose, check, run; -m or a comma list sweeps
  r1exp plan [-m] overrides...     the same without running: values and origins, batches, memory, commands
  r1exp check overrides...         score gold and adversarial answers with the rewards, before they are paid
  r1exp sweep status DIR           what each run of a multirun (or one run) is doing: job, step, progress, reason
  r1exp sweep retry DIR            start again the runs that failed, were interrupted, or vanished
  r1exp sweep report DIR           a table of its settings, best first, with intervals over the seeds
  r1exp doctor                     what is installed, what is missing for which feature

  r1exp                                       the quickstart: a tiny model on a CPU, minutes
  r1exp rewards=vote_partial beta=0.01        change the reward and the KL penalty
  r1exp -m rewards.graded.weight=0,1 seed=1,2 four runs, compared
  r1exp debug=fast                            every step cut to a few

Options: -m/--multirun, --config-dir DIR (a folder with groups of your own), --help, --version.
Exit codes: 0 done, 2 refused before running, 3 failed, 4 stopped by health, 75 preempted, 130 interrupted.

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(_dispatch(words))
    except (Interrupted, KeyboardInterrupt):
        sys.stderr.write("r1exp: interrupted\n")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:  # `r1exp plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.DONE)
    except R1ExpError as error:
        sys.stderr.write(f"r1exp: {error}\n")
        return int(error.exit_code)


def _dispatch(words: list[str]) -> ExitCode:
    if "--version" in words:
        from r1exp import __version__

        _print(f"r1exp {__version__}\n")
        return ExitCode.DONE
    if words and "=" not in words[0] and not words[0].startswith(("-", "+", "~")):
        verb, rest = words[0], words[1:]
        if verb not in VERBS:
            close = nearest(verb, VERBS)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise Refused(f"{verb!r} is no verb and no override.{hint} Verbs: {', '.join(VERBS)}.")
    else:
        verb, rest = "run", words
    if verb == "doctor":
        from r1exp.doctor import doctor_report

        report = doctor_report()
        _print(report.text())
        return ExitCode.DONE if report.is_healthy else ExitCode.REFUSED
    if verb == "sweep" and not {"-h", "--help"} & set(rest):
        return _sweep(rest)
    options, overrides = _options(rest)
    if options.help:
        _print(_HELP + _groups_text(options.config_dirs))
        return ExitCode.DONE
    if verb == "check":
        from r1exp.runner.reward_check import check_rewards

        text, code = check_rewards(overrides, options.config_dirs)
        _print(text)
        return code
    from r1exp.runner.sweep import plan_members, run_members

    if verb == "plan":
        _print(plan_members(overrides, options.is_multirun, options.config_dirs))
        return ExitCode.DONE
    return run_members(overrides, options.is_multirun, options.config_dirs)


def _sweep(words: list[str]) -> ExitCode:
    """Look at a multirun, rank its runs, or start some of them again."""
    from r1exp.report.sweep import sweep_report
    from r1exp.runner.sweep_status import newest_sweeps, sweep_retry, sweep_status

    verbs = ("status", "retry", "report")
    if not words or words[0] not in verbs:
        found = words[0] if words else "nothing"
        close = nearest(found, verbs)
        hint = f" Did you mean `r1exp sweep {close[0]}`?" if close else ""
        hint = " To start a sweep, type: r1exp -m overrides..." if "=" in found else hint
        raise Refused(f"`r1exp sweep` takes status DIR, retry DIR or report DIR, and found {found}.{hint}")
    if len(words) != 2:
        raise Refused(
            f"`r1exp sweep {words[0]}` takes one folder, and found {len(words) - 1}.{newest_sweeps()}"
        )
    if words[0] == "retry":
        return sweep_retry(Path(words[1]))
    _print(sweep_report(Path(words[1])) if words[0] == "report" else sweep_status(Path(words[1])))
    return ExitCode.DONE


class _Options:
    """The few flags there are."""

    def __init__(self) -> None:
        self.is_multirun = False
        self.help = False
        self.config_dirs: list[Path] = []


def _options(words: list[str]) -> tuple[_Options, list[str]]:
    options, overrides = _Options(), []
    rest = iter(words)
    for word in rest:
        if word in ("-m", "--multirun"):
            options.is_multirun = True
        elif word in ("-h", "--help"):
            options.help = True
        elif word in ("-cd", "--config-dir"):
            folder = next(rest, None)
            if folder is None:
                raise Refused("--config-dir needs a folder behind it")
            options.config_dirs.append(Path(folder))
        elif word.startswith("--config-dir="):
            options.config_dirs.append(Path(word.partition("=")[2]))
        elif word.startswith("-"):
            raise Refused(f"{word}: no such option; there are -m, --config-dir DIR, --help, --version")
        else:
            overrides.append(word)
    return options, overrides


def _groups_text(config_dirs: Sequence[Path]) -> str:
    from r1exp.config.compose import groups, session

    with session(config_dirs):
        lines = [f"  {name}: {', '.join(options)}\n" for name, options in groups().items()]
    return "Groups and their options:\n" + "".join(lines)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
