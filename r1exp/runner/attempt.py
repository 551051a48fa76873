"""Explains why one start of a step's processes failed: which rank failed first, and its traceback."""

from pathlib import Path

from r1exp.paths import StepPaths
from r1exp.step.failure import Failure, first_failure, last_output
from r1exp.step.status import Status
from r1exp.terminal import say


class Attempt:
    """One start of a step; log.txt also contains the output of earlier starts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        log = StepPaths(folder).log()
        self._begin = log.stat().st_size if log.exists() else 0  # bytes
        for path in StepPaths(folder).failures():
            path.unlink()

    def explain(self, status: Status, code: int) -> Status:
        """Show the end of the output of the rank that failed first; return the status with its rank and reason.

        Args:
            status: The status that the ranks wrote.
            code: Exit status of the launcher.
        """
        log = self._log()
        found = first_failure(self._folder, log)
        failure = found or Failure(
            rank=0,
            reason=f"the worker ended with exit status {code} and without a message",
            was_reported=False,
        )
        output = last_output(self._folder, failure, log)
        file = StepPaths(self._folder).log(failure.rank)
        whole = file if file.exists() else StepPaths(self._folder).log()
        where = "" if output is None else f"; its whole output is in {whole}"
        reason = f"rank {failure.rank} failed first: {failure.reason}{where}"
        if output is not None:
            say(f"{self._folder.name}: the last output of rank {failure.rank}:\n{output}", end="")
        return status.model_copy(update={"state": "failed", "reason": reason, "rank": failure.rank})

    def _log(self) -> str:
        log = StepPaths(self._folder).log()
        if not log.exists():
            return ""
        with log.open("rb") as file:
            file.seek(self._begin)
            return file.read().decode("utf-8", errors="replace")
