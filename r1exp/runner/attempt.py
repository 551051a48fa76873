"""Explains why one start of a step's processes failed: which rank failed first, and its traceback."""

from pathlib import Path

from r1exp.launcher.base import Launcher
from r1exp.launcher.kills import Kills
from r1exp.launcher.torchrun import ending, lost_node
from r1exp.paths import StepPaths
from r1exp.step.failure import Failure, first_failure, last_output, peer_of, silent_ranks
from r1exp.step.status import Status
from r1exp.terminal import say


class Attempt:
    """One start of a step; log.txt also contains the output of earlier starts."""

    def __init__(self, folder: Path, launcher: Launcher) -> None:
        self._folder = folder
        self._launcher = launcher
        self._kills = Kills()
        self._pid: int | None = None  # of the only rank, or of the launcher of several
        log = StepPaths(folder).log()
        self._begin = log.stat().st_size if log.exists() else 0  # bytes
        for path in StepPaths(folder).failures():
            path.unlink()

    def has_started(self, pid: int) -> None:
        """Record the id of the process that was started."""
        self._pid = pid

    def explain(self, status: Status, code: int) -> Status:
        """Show the end of the output of the rank that failed first; return the status with its rank and reason.

        Args:
            status: The status that the ranks wrote.
            code: Exit status of the launcher.
        """
        log = self._log()
        is_here = self._launcher.num_nodes == 1 and self._launcher.job is None
        found = first_failure(self._folder, log, self._kills, is_here)
        if found is None or found.is_consequence:
            found = self._without_cause(found, log, code, is_here)
        output = last_output(self._folder, found, log)
        file = StepPaths(self._folder).log(found.rank)
        whole = file if file.exists() else StepPaths(self._folder).log()
        where = "" if output is None else f"; its whole output is in {whole}"
        reason = f"rank {found.rank} failed first: {found.reason}{where}"
        if output is not None:
            say(f"{self._folder.name}: the last output of rank {found.rank}:\n{output}", end="")
        return status.model_copy(update={"state": "failed", "reason": reason, "rank": found.rank})

    def _without_cause(self, found: Failure | None, log: str, code: int, is_here: bool) -> Failure:
        """Return the failure of a step whose ranks report no cause, only lost connections, or nothing.

        Args:
            found: A rank that lost its connection to another one; None: no rank reported anything.
            log: Output of the launcher.
            code: Its exit status.
            is_here: Whether all ranks ran on this machine.
        """
        several = self._launcher.num_processes > 1
        silent = silent_ranks(self._folder, self._launcher.num_processes)
        rank = silent[0] if silent else 0
        node = lost_node(log)
        if node is not None or (found is not None and (peer := peer_of(found)) is not None and not is_here):
            what = node.text() if node is not None else f"the connection to {peer} was lost"
            return Failure(rank=rank, reason=f"{what}; no word from {_ranks(silent)}", was_reported=False)
        if found is not None and code >= 0:
            return found
        how = ending(code, self._pid, self._kills, is_here)
        who = f"the launcher of the {self._launcher.num_processes} ranks ended, and they with it: {how}"
        return Failure(rank=rank, reason=who if several else how, was_reported=False)

    def _log(self) -> str:
        log = StepPaths(self._folder).log()
        if not log.exists():
            return ""
        with log.open("rb") as file:
            file.seek(self._begin)
            return file.read().decode("utf-8", errors="replace")


def _ranks(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
