"""Applies the health rules to logged rows. Without side effects; torch-free.

A rule checks the mean of its metric over the last `window` rows that have it. The bound of a relative
rule is a multiple of the mean over the first `window` rows. Rows without the metric, or with null, NaN
or infinity for it, are skipped; `r1exp.algorithm.guards` handles values that are not finite. A broken
rule is reported once, and again only after it has been satisfied in between.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1exp.health.settings import Action, HealthSettings, Rule


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule."""

    rule: str  # name in the settings
    step: int  # optimizer step
    value: float  # mean over the window
    bound: float  # absolute, also for a relative rule
    action: Action
    advice: str

    def text(self, metric: str) -> str:
        """Return the message that is shown to the user."""
        side = "above" if self.value > self.bound else "below"
        return f"{self.rule}: {metric} {self.value:.4g} is {side} {self.bound:.4g} at step {self.step}; {self.advice}"


class Monitor:
    """Applies the rules to logged rows, one after the other."""

    def __init__(self, settings: HealthSettings) -> None:
        self._rules = settings.rules
        self._recent: dict[str, deque[float]] = {
            name: deque(maxlen=rule.window) for name, rule in settings.rules.items()
        }
        self._start: dict[str, float] = {}  # rule -> mean over its first window
        self._broken: set[str] = set()

    def observe(self, step: int, row: Mapping[str, Any]) -> list[Violation]:
        """Process a logged row and return the rules that it newly breaks."""
        found = []
        for name, rule in self._rules.items():
            value = row.get(rule.metric)
            counts = rule.beside is None or row.get(rule.beside) is not None
            if not counts or not isinstance(value, int | float) or not math.isfinite(value):
                continue
            violation = self._check(name, rule, step, float(value))
            if violation is None:
                self._broken.discard(name)
            elif name not in self._broken:
                self._broken.add(name)
                found.append(violation)
        return found

    def never_applied(self) -> list[str]:
        """Return the rules whose metric no row had."""
        return [name for name, values in self._recent.items() if not values]

    def _check(self, name: str, rule: Rule, step: int, value: float) -> Violation | None:
        recent = self._recent[name]
        recent.append(value)
        if len(recent) < rule.window:
            return None
        mean = sum(recent) / len(recent)
        start = self._start.setdefault(name, mean)
        if rule.start_at_least is not None:
            start = max(start, rule.start_at_least)
        factor = start if rule.relative else 1.0
        if rule.above is not None:
            bound, is_broken = rule.above * factor, mean > rule.above * factor
        else:
            assert rule.below is not None
            bound, is_broken = rule.below * factor, mean < rule.below * factor
        return Violation(name, step, mean, bound, rule.action, rule.advice) if is_broken else None

    def state(self) -> dict[str, Any]:
        """Return the state with which a resumed step gives the same reports as an uninterrupted one."""
        return {
            "recent": {name: list(values) for name, values in self._recent.items()},
            "start": self._start,
            "broken": sorted(self._broken),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; rules added since then start without history."""
        for name, values in state["recent"].items():
            if name in self._recent:
                self._recent[name].extend(values)
        self._start = {name: value for name, value in state["start"].items() if name in self._rules}
        self._broken = set(state["broken"]) & set(self._rules)
