"""Parses the options that verbs taking overrides share: -m, --config-dir, --help; and --from, --until, --only of run and plan."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from r1exp.config.names import hint_for
from r1exp.errors import Refused
from r1exp.plan.step_range import WHOLE, StepRange

# Options of Hydra that print something and run nothing; r1exp.verbs.hydra_flags answers them.
_FLAGS = ("--cfg", "-c", "--info", "-i", "--hydra-help", "-sc", "--shell-completion")

_RANGE = ("--from", "--until", "--only")  # of the verbs that run or plan steps

# Options of Hydra, or of other programs, that r1exp does not have -> what to type instead.
_INSTEAD = {
    "--run": "nothing: a command line without -m is one run",
    "-r": "nothing: a command line without -m is one run",
    "--config-name": "experiment=NAME; r1exp has one root configuration",
    "-cn": "experiment=NAME; r1exp has one root configuration",
    "--config-path": "--config-dir DIR, which adds a folder to r1exp's own",
    "-cp": "--config-dir DIR, which adds a folder to r1exp's own",
    "--experimental-rerun": "the overrides in the run's manifest.json",
    "--package": "--cfg job --package KEY",
    "-p": "--cfg job --package KEY",
    "--resolve": "--cfg job --resolve",
    "--dry-run": "the verb: r1exp plan",
    "--debug": "debug=fast",
    "--verbose": "hydra.verbose=true",
    "-v": "hydra.verbose=true, or --version",
    "--seed": "seed=1",
}


def is_hydra_flag(argument: str) -> bool:
    """Whether an argument is an option of Hydra that prints something instead of a run."""
    return argument.partition("=")[0] in _FLAGS


@dataclass
class Options:
    """The options of a command line, and its overrides."""

    is_multirun: bool = False
    wants_help: bool = False
    config_dirs: list[Path] = field(default_factory=list)
    span: StepRange = WHOLE  # the steps that may run
    overrides: list[str] = field(default_factory=list)


def parse_options(arguments: Sequence[str], *, takes_range: bool = False) -> Options:
    """Return the options and overrides among `arguments`.

    Args:
        arguments: What was typed after the verb.
        takes_range: Whether the verb runs or plans steps, and so has --from, --until and --only.

    Raises:
        Refused: an unknown option, --config-dir without a folder, or a range of steps that is none.
    """
    options = Options()
    words: dict[str, str] = {}  # --from, --until, --only -> step
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-m", "--multirun"):
            options.is_multirun = True
        elif argument in ("-h", "--help"):
            options.wants_help = True
        elif argument in ("-cd", "--config-dir"):
            folder = next(rest, None)
            if folder is None:
                raise Refused("--config-dir needs a folder: --config-dir DIR")
            options.config_dirs.append(Path(folder))
        elif argument.startswith("--config-dir="):
            folder = argument.partition("=")[2]
            if not folder:
                raise Refused("--config-dir needs a folder: --config-dir DIR")
            options.config_dirs.append(Path(folder))
        elif takes_range and argument.partition("=")[0] in _RANGE:
            name, equals, value = argument.partition("=")
            step = value if equals else next(rest, "")
            if not step or step.startswith("-"):
                raise Refused(f"{name} needs the name of a step: {name} STEP; `r1exp plan` lists them")
            if name in words:
                raise Refused(f"{name} {words[name]} and {name} {step}: give one of them")
            words[name] = step
        elif argument.startswith("-"):
            raise Refused(_unknown(argument))
        else:
            options.overrides.append(argument)
    options.span = _span(words)
    return options


def _span(words: dict[str, str]) -> StepRange:
    """Return the range of steps that was typed."""
    only = words.get("--only")
    if only is not None and len(words) > 1:
        raise Refused(
            f"--only {only} is one step, and {' and '.join(sorted(words.keys() - {'--only'}))} a range; give one or the other"
        )
    return StepRange(only or words.get("--from"), only or words.get("--until"))


def _unknown(argument: str) -> str:
    """Return the refusal of an option that does not exist, with what to type instead."""
    name, _, value = argument.partition("=")
    if name in _RANGE:
        return f"{argument}: only `r1exp run` and `r1exp plan` have {', '.join(_RANGE)}"
    if name in _INSTEAD:
        return f"{argument}: r1exp has no such option; type {_INSTEAD[name]}"
    if value or (name.startswith("--") and name[2:3].isalpha()):
        key = name.lstrip("-").replace("-", "_")
        return (
            f"{argument}: no such option; there are -m, --config-dir DIR, --from STEP, --until STEP, --only STEP, --cfg, --info, --help, --version. "
            f"Settings have no dashes: {key}={value or '...'}. {hint_for(key)}".rstrip()
        )
    return f"{argument}: no such option; there are -m, --config-dir DIR, --from STEP, --until STEP, --only STEP, --cfg, --info, --help, --version"
