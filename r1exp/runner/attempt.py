"""One start of a step's processes, and what a person is told when it fails: the first rank that died, and its traceback."""

import sys
from pathlib import Path

from r1exp.step.failure import LOG, Failure, first_failure, last_words, log_of
from r1exp.step.status import Status


class Attempt:
    """Knows what belongs to this start: log.txt holds the output of earlier ones too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        log = folder / LOG
        self._begin = log.stat().st_size if log.exists() else 0  # bytes
        for path in folder.glob("failed-rank-*.json"):
            path.unlink()

    def explain(self, status: Status, code: int) -> Status:
        """Show the last words of the rank that failed first; return the status with its number and its reason.

        Args:
            status: As the ranks left it.
            code: Exit status of the launcher.
        """
        log = self._log()
        found = first_failure(self._folder, log)
        failure = found or Failure(
            rank=0, reason=f"the worker ended with exit status {code} and no word", has_spoken=False
        )
        words = last_words(self._folder, failure, log)
        file = log_of(self._folder, failure.rank)
        where = (
            ""
            if words is None
            else f"; all that it printed is in {file if file.exists() else self._folder / LOG}"
        )
        reason = f"rank {failure.rank} failed first: {failure.reason}{where}"
        if words is not None:
            sys.stderr.write(f"{self._folder.name}: the last words of rank {failure.rank}:\n{words}")
        return status.model_copy(update={"state": "failed", "reason": reason, "rank": failure.rank})

    def _log(self) -> str:
        if not (self._folder / LOG).exists():
            return ""
        with (self._folder / LOG).open("rb") as file:
            file.seek(self._begin)
            return file.read().decode("utf-8", errors="replace")
