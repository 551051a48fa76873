"""`r1exp watch RUN [--port N]`: serves the report of a run or sweep on this machine, and refreshes it while it trains."""

from collections.abc import Sequence
from pathlib import Path

from r1exp.errors import ExitCode, Refused
from r1exp.report.watch import Watch, serve
from r1exp.runner.sweep_status import states_of
from r1exp.terminal import show

_USAGE = "`r1exp watch` takes one run directory or sweep, and --port N"


def main(arguments: Sequence[str]) -> ExitCode:
    """Serve until Ctrl-C.

    Raises:
        Refused: not exactly one folder, or a port that is taken or no number.
    """
    folders: list[str] = []
    port = 0
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name == "--port":
            given = value if equals else next(rest, "")
            if not given.isdigit() or int(given) > 65535:
                raise Refused(f"--port needs a number up to 65535, but found {given or 'nothing'}")
            port = int(given)
        elif argument.startswith("-"):
            raise Refused(f"{_USAGE}, but found {argument}")
        else:
            folders.append(argument)
    if len(folders) != 1:
        raise Refused(f"{_USAGE}, but found {len(folders)} folders")
    folder = Path(folders[0])
    serve(Watch(folder, _states), port, show)
    return ExitCode.DONE


def _states(folder: Path) -> dict[str, dict[str, str]]:
    """Return state and reason of each run of a folder."""
    return {
        state.folder.resolve().name: {"state": state.state, "reason": state.reason}
        for state in states_of(folder)
    }
