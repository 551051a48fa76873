"""`r1exp runs [DIR] [state=...] [name=...] [KEY=VALUE] [sort=...] [limit=N]`: lists runs and sweeps.

`state`, `name`, `sort` and `limit` are words of this verb; any other key selects the runs for which that value was typed.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from r1exp.errors import ExitCode, Refused
from r1exp.runner.run_list import run_list
from r1exp.terminal import show

_FOLDER = Path("runs")
_WIDTH = 120  # characters, where there is no terminal


def main(arguments: Sequence[str]) -> ExitCode:
    """List the runs below a folder.

    Raises:
        Refused: several folders, an option, or a limit that is no number.
    """
    wanted: dict[str, str] = {}
    folders = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if argument.startswith("-"):
            raise Refused(
                f"{argument}: `r1exp runs` has no options; it takes a folder, state=, name=, sort=, limit=, and overrides"
            )
        if equals:
            wanted[key] = value
        else:
            folders.append(argument)
    if len(folders) > 1:
        raise Refused(f"`r1exp runs` takes one folder, but found {len(folders)}: {' '.join(folders)}")
    sort, limit = wanted.pop("sort", "age"), wanted.pop("limit", None)
    if limit is not None and not (limit.isdecimal() and int(limit)):
        raise Refused(f"limit={limit}: how many runs are listed must be a number from 1")
    width = shutil.get_terminal_size((_WIDTH, 40)).columns if sys.stdout.isatty() else _WIDTH
    folder = Path(folders[0]) if folders else _FOLDER
    show(run_list(folder, wanted, sort, None if limit is None else int(limit), width), end="")
    return ExitCode.DONE
