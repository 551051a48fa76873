"""Decides when a service counts as down, so that nobody waits for it any longer, and when it is asked again.

    closed --- nothing has worked for `seconds`, and `failures` attempts failed ---> open
    open   --- an attempt worked; one is made every `probe_every` seconds ---------> closed

Both conditions count: a server that refuses connections fails many times in the second in which it is restarted, and
one slow request says nothing about the others. Torch-free.
"""

import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Counts failed attempts to reach one service. Usable from several threads at once.

    Args:
        failures: Failed attempts in a row before it opens.
        seconds: Seconds without a success before it opens, from the beginning of the first failed attempt.
        probe_every: Seconds between two probes while it is open.
        clock: Returns seconds.
    """

    def __init__(
        self,
        failures: int = 4,
        seconds: float = 30.0,
        probe_every: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures, self._seconds, self._probe_every = failures, seconds, probe_every
        self._clock = clock
        self._lock = threading.Lock()
        self._num_failed = 0  # attempts in a row
        self._failing_since = 0.0
        self._last_success = -float("inf")
        self._next_probe = 0.0
        self.reason: str | None = None  # why it is open; None: it is closed

    @property
    def is_open(self) -> bool:
        """Whether the service counts as down."""
        return self.reason is not None

    def succeeded(self) -> None:
        """Record an attempt that the service answered; closes the breaker."""
        with self._lock:
            self._num_failed = 0
            self._last_success = self._clock()
            self.reason = None

    def failed(self, began: float, found: str) -> bool:
        """Record an attempt that failed; return whether this opened the breaker.

        Args:
            began: When the attempt began, by the clock.
            found: What happened.
        """
        with self._lock:
            now = self._clock()
            begun = max(began, self._last_success)  # one that is older than a success counts from there
            self._failing_since = min(self._failing_since, begun) if self._num_failed else begun
            self._num_failed += 1
            lasted = now - self._failing_since
            if self.is_open or self._num_failed < self._failures or lasted < self._seconds:
                return False
            self.reason = f"{found}; {self._num_failed} attempts in {lasted:.0f} s failed"
            self._next_probe = now + self._probe_every
            return True

    def takes_probe(self) -> bool:
        """Return whether it is time to ask the service again; true once in `probe_every` seconds while it is open."""
        with self._lock:
            if not self.is_open or self._clock() < self._next_probe:
                return False
            self._next_probe = self._clock() + self._probe_every
            return True
