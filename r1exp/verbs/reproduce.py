"""`r1exp reproduce RUN [--checkout] [--config-dir DIR]`, or `r1exp reproduce RUN OTHER`: is the result the same?

With one run its command is run again, and what differs from its manifest is said. With two their results are compared.
"""

from collections.abc import Sequence
from pathlib import Path

from r1exp.errors import ExitCode, Refused
from r1exp.runner.reproduce import compare, reproduce
from r1exp.verbs.options import parse_options

_CHECKOUT = "--checkout"


def main(arguments: Sequence[str]) -> ExitCode:
    """Run a run again, or compare two.

    Raises:
        Refused: not one or two folders, or an override.
    """
    options = parse_options([argument for argument in arguments if argument != _CHECKOUT])
    folders = [Path(text) for text in options.overrides]
    typed = [text for text in options.overrides if "=" in text]
    if typed and not Path(typed[0]).exists():
        raise Refused(
            f"{typed[0]}: a run is reproduced with the settings of its manifest; to change one, run its command with it"
        )
    if len(folders) not in (1, 2):
        raise Refused(
            f"`r1exp reproduce` takes the directory of a run, or two to compare, but found {len(folders)}; "
            "`r1exp runs` lists them"
        )
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise Refused(f"{missing[0]}: there is no such folder; `r1exp runs` lists the runs")
    if len(folders) == 2:
        return compare(*folders)
    return reproduce(folders[0], options.config_dirs, checks_out=_CHECKOUT in arguments)
