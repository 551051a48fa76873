"""`r1exp report RUN... [--open] [--output DIR]`: writes the report of a run, of several runs or of a sweep."""

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from r1exp.errors import ExitCode, Refused
from r1exp.report.write import target_of, write_pages
from r1exp.runner.sweep_status import unfinished
from r1exp.terminal import say, show

_USAGE = "`r1exp report` takes run directories or a sweep, and --open or --output DIR"


def main(arguments: Sequence[str]) -> ExitCode:
    """Write a report, and open it where that is asked for.

    Raises:
        Refused: no folder, an unknown option, or a folder that is neither a run nor a sweep.
    """
    folders, opens, output = _parsed(arguments)
    target = target_of(folders, output)
    page = write_pages(target, draws=True, states=unfinished(target.sweep) if target.sweep else None)
    show(str(page))
    if opens and not webbrowser.open(page.resolve().as_uri()):
        say(f"no browser was found; open {page.resolve()} in one")
    return ExitCode.DONE


def _parsed(arguments: Sequence[str]) -> tuple[list[Path], bool, Path | None]:
    """Return the folders, whether to open the page, and the output folder."""
    folders: list[Path] = []
    opens, output = False, None
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--open":
            opens = True
        elif name == "--output":
            given = value if equals else next(rest, "")
            if not given:
                raise Refused("--output needs a folder: --output DIR")
            output = Path(given)
        elif argument.startswith("-"):
            raise Refused(f"{_USAGE}, but found {argument}")
        else:
            folders.append(Path(argument))
    if not folders:
        raise Refused(f"{_USAGE}, but found no folder; runs are below runs/")
    return folders, opens, output
