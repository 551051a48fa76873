"""`r1exp sweep status|retry|report DIR`: shows a multirun, restarts its failed runs, or ranks its runs."""

from collections.abc import Sequence
from pathlib import Path

from r1exp.errors import ExitCode, Refused
from r1exp.plan.run_plan import has_plan
from r1exp.report.sweep import sweep_report
from r1exp.report.write import target_of, write_pages
from r1exp.runner.sweep_status import newest_sweeps, sweep_retry, sweep_status, unfinished
from r1exp.settings import nearest
from r1exp.terminal import show

_ACTIONS = ("status", "retry", "report")


def main(arguments: Sequence[str]) -> ExitCode:
    """Perform one of the three actions on a folder.

    Raises:
        Refused: an unknown action, or not exactly one folder.
    """
    if not arguments or arguments[0] not in _ACTIONS:
        found = arguments[0] if arguments else "nothing"
        close = nearest(found, _ACTIONS)
        hint = f" Did you mean `r1exp sweep {close[0]}`?" if close else ""
        hint = " To start a sweep, type: r1exp -m overrides..." if "=" in found else hint
        raise Refused(f"`r1exp sweep` takes status DIR, retry DIR or report DIR, but found {found}.{hint}")
    action, folders = arguments[0], arguments[1:]
    if len(folders) != 1:
        raise Refused(f"`r1exp sweep {action}` takes one folder, but found {len(folders)}.{newest_sweeps()}")
    folder = Path(folders[0])
    if action == "retry":
        return sweep_retry(folder)
    if action == "status":
        show(sweep_status(folder), end="")
        return ExitCode.DONE
    states = unfinished(folder)
    show(sweep_report(folder, states), end="")
    if not has_plan(folder):
        write_pages(target_of([folder]), draws=False, states=states)
    return ExitCode.DONE
