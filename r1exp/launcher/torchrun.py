"""Reads which process failed first from the report that torchrun prints last.

torch 2.13, `torch.distributed.elastic.multiprocessing.errors`: "Root Cause (first observed failure)". The report
includes failures that a rank cannot report itself: a `kill -9`, the kernel's out-of-memory killer, a crash in compiled
code.
"""

import re
import signal
from dataclasses import dataclass

_ROOT = re.compile(
    r"Root Cause \(first observed failure\):.*?rank\s*: (\d+) .*?exitcode\s*: (-?\d+) ", re.DOTALL
)
_OWN_LINE = re.compile(r"^[EW]\d{4} .*torch/distributed/", re.MULTILINE)  # torchrun's warnings and errors


@dataclass(frozen=True)
class RootCause:
    """A process that failed."""

    rank: int
    exit_code: int  # negative: minus the signal that ended it

    def text(self) -> str:
        """Return how the process ended."""
        if self.exit_code >= 0:
            return f"it ended with exit status {self.exit_code} and no message"
        name = signal.Signals(-self.exit_code).name
        hint = "; the machine may have run out of memory (see dmesg)" if name == "SIGKILL" else ""
        return f"it was ended by {name}{hint}"


def root_cause(log: str) -> RootCause | None:
    """Return the first failure that torchrun names in `log`; None if it names none.

    Each machine has its own torchrun. One that only ended its processes because of another machine's failure names
    SIGTERM, so that other signals and exit statuses take precedence.
    """
    found = [RootCause(int(rank), int(code)) for rank, code in _ROOT.findall(log)]
    own = [cause for cause in found if cause.exit_code != -signal.SIGTERM]
    return next(iter(own or found), None)


def before_report(log: str) -> str:
    """Return what the processes printed before the report of torchrun."""
    found = _OWN_LINE.search(log)
    return log if found is None else log[: found.start()]
