"""Parses the options that verbs taking overrides share: -m, --config-dir, --help."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from r1exp.errors import Refused


@dataclass
class Options:
    """The options of a command line, and its overrides."""

    is_multirun: bool = False
    wants_help: bool = False
    config_dirs: list[Path] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)


def parse_options(arguments: Sequence[str]) -> Options:
    """Return the options and overrides among `arguments`.

    Raises:
        Refused: an unknown option, or --config-dir without a folder.
    """
    options = Options()
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
            options.config_dirs.append(Path(argument.partition("=")[2]))
        elif argument.startswith("-"):
            raise Refused(f"{argument}: no such option; there are -m, --config-dir DIR, --help, --version")
        else:
            options.overrides.append(argument)
    return options
