"""Entry point of a member that runs beside others: `python -m r1exp.runner.member RUN SHARE NUM_SHARES`.

It uses the cores of its share only, so that the ranks of members side by side do not wait for each other. Where another
process executes its next step, it ends with the status `WAITS` instead of waiting: the sweep starts it again after that.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1exp.errors import ExitCode, R1ExpError
from r1exp.plan.run_plan import read_plan
from r1exp.report.summary import headline
from r1exp.runner.process import PARENT_VARIABLE, parent_is_gone
from r1exp.runner.run import Run, WouldWait
from r1exp.runner.run_directory import perform
from r1exp.terminal import say, show

WAITS = 79  # exit status of a member that would have to wait for a step that another process executes
_PARENT_CHECK = 2.0  # seconds between checks that the process of the sweep still exists


def share_of(items: Sequence[Any], share: int, num_shares: int) -> list[Any]:
    """Return the share with the number `share` of `items`; where there are too few, one of them."""
    each = len(items) // num_shares
    if each == 0:
        return [items[share % len(items)]]
    return list(items[share * each : (share + 1) * each])


def main(folder: Path, share: int, num_shares: int) -> int:
    """Execute the run in `folder` and return its exit code, or WAITS."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share_of(sorted(os.sched_getaffinity(0)), share, num_shares))
    _end_with_parent(os.environ[PARENT_VARIABLE])
    try:
        code, summary, _ = perform(Run(read_plan(folder), folder, waits=False))
    except WouldWait:
        return WAITS
    except R1ExpError as error:
        say(f"r1exp: {error}")
        return error.exit_code
    if summary:
        show(headline(summary, folder))
    return code


def _end_with_parent(mark: str) -> None:
    """Exit when the process of the sweep has ended, also after `kill -9`; the ranks end with this process."""

    def watch() -> None:
        while not parent_is_gone(mark):
            time.sleep(_PARENT_CHECK)
        os._exit(int(ExitCode.INTERRUPTED))

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
