"""Applies the health rules to logged rows. Without side effects; torch-free.

A rule checks the mean of its metric over the last `window` rows that have it. The bound of a relative
rule is a multiple of the mean over the first `window` rows. Rows without the metric, or with null, NaN
or infinity for it, are skipped; `r1exp.algorithm.guards` handles values that are not finite. A broken
rule is reported once, and again only after it has been satisfied in between.

`rising` and `falling` name a second metric, whose mean over the last `window` rows that have it is compared with its mean
over the first ones. A rule with `patience` compares each mean with the highest one so far.
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
    bound: float  # absolute, also for a relative rule; of a rule with patience the highest mean so far
    action: Action
    advice: str
    patience: int | None = None  # means without a new highest one, of a rule with patience

    def text(self, metric: str) -> str:
        """Return the message that is shown to the user."""
        if self.patience is not None:
            how = f"has not exceeded {self.bound:.4g} in {self.patience} evaluations"
        else:
            how = f"is {'above' if self.value > self.bound else 'below'} {self.bound:.4g}"
        return f"{self.rule}: {metric} {self.value:.4g} {how} at step {self.step}; {self.advice}"


class _Mean:
    """The mean of a metric over the last rows that have it, and over the first ones."""

    def __init__(self, window: int) -> None:
        self.values: deque[float] = deque(maxlen=window)
        self.start: float | None = None

    def add(self, value: float) -> None:
        self.values.append(value)
        if self.start is None and self.is_full:
            self.start = self.now

    @property
    def is_full(self) -> bool:
        return len(self.values) == self.values.maxlen

    @property
    def now(self) -> float:
        return sum(self.values) / len(self.values)

    def state(self) -> dict[str, Any]:
        return {"values": list(self.values), "start": self.start}

    def load(self, state: Mapping[str, Any]) -> None:
        self.values.extend(state["values"])
        self.start = state["start"]


class _Watch:
    """One rule and what it remembers."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._factor: float | None = None  # the trainer's argument
        self._own = _Mean(rule.window)
        self._others = {name: _Mean(rule.window) for name in (rule.rising, rule.falling) if name is not None}
        self._best: float | None = None  # highest mean, of a rule with patience
        self._num_since = 0  # means since then
        self.num_means = 0
        self.is_broken = False

    def use_arguments(self, arguments: Mapping[str, Any]) -> None:
        if self._rule.argument is not None:
            self._factor = _number(arguments.get(self._rule.argument))

    @property
    def has_values(self) -> bool:
        return bool(self._own.values)

    def observe(self, row: Mapping[str, Any]) -> tuple[float, float] | bool | None:
        """Return (mean, bound) where a row breaks the rule, False where it satisfies it, None where it says nothing."""
        if self._rule.beside is not None and row.get(self._rule.beside) is None:
            return None
        for name, mean in self._others.items():
            if (other := _number(row.get(name))) is not None:
                mean.add(other)
        value = _number(row.get(self._rule.metric))
        if value is None:
            return None
        self._own.add(value)
        if not self._own.is_full:
            return False
        self.num_means += 1
        mean_now = self._own.now
        if self._rule.patience is not None:
            return self._waited(mean_now)
        bound = self._bound()
        if bound is None or (self._rule.first_rows and self.num_means > 1) or not self._others_move():
            return False
        is_broken = mean_now > bound if self._rule.above is not None else mean_now < bound
        return (mean_now, bound) if is_broken else False

    def _waited(self, mean: float) -> tuple[float, float] | bool:
        assert self._rule.patience is not None
        if self._best is None or mean > self._best:
            self._best, self._num_since = mean, 0
            return False
        self._num_since += 1
        return (mean, self._best) if self._num_since >= self._rule.patience else False

    def _bound(self) -> float | None:
        number = self._rule.above if self._rule.above is not None else self._rule.below
        assert number is not None
        if self._rule.argument is not None:
            return number * self._factor if self._factor else None
        if not self._rule.relative:
            return number
        start = self._own.start
        assert start is not None
        least = self._rule.start_at_least
        return number * (start if least is None else max(start, least))

    def _others_move(self) -> bool:
        """Whether the metrics of `rising` and `falling` have moved that way."""
        for name, sign in ((self._rule.rising, 1.0), (self._rule.falling, -1.0)):
            if name is None:
                continue
            mean = self._others[name]
            if mean.start is None or sign * (mean.now - mean.start) <= 0.0:
                return False
        return True

    def state(self) -> dict[str, Any]:
        others = {name: mean.state() for name, mean in self._others.items()}
        counts = {"best": self._best, "since": self._num_since, "means": self.num_means}
        return {**self._own.state(), **counts, "others": others, "broken": self.is_broken}

    def load(self, state: Mapping[str, Any]) -> None:
        self._own.load(state)
        for name, mean in self._others.items():
            if name in state["others"]:
                mean.load(state["others"][name])
        self._best, self._num_since, self.num_means = state["best"], state["since"], state["means"]
        self.is_broken = state["broken"]


class Monitor:
    """Applies the rules to logged rows, one after the other."""

    def __init__(self, settings: HealthSettings) -> None:
        self._rules = settings.rules
        self._watches = {name: _Watch(rule) for name, rule in settings.rules.items()}

    def use_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Set the arguments of the trainer, which a bound may be a multiple of; without them such a rule has no bound."""
        for watch in self._watches.values():
            watch.use_arguments(arguments)

    def observe(self, step: int, row: Mapping[str, Any]) -> list[Violation]:
        """Process a logged row and return the rules that it newly breaks."""
        found = []
        for name, watch in self._watches.items():
            seen = watch.observe(row)
            if seen is None:
                continue
            was_broken, watch.is_broken = watch.is_broken, bool(seen)
            if isinstance(seen, tuple) and not was_broken:
                rule = self._rules[name]
                found.append(Violation(name, step, *seen, rule.action, rule.advice, rule.patience))
        return found

    def never_applied(self) -> list[str]:
        """Return the rules whose metric no row had."""
        return [name for name, watch in self._watches.items() if not watch.has_values]

    def state(self) -> dict[str, Any]:
        """Return the state with which a resumed step gives the same reports as an uninterrupted one."""
        return {"rules": {name: watch.state() for name, watch in self._watches.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; rules added since then start without history."""
        for name, saved in state["rules"].items():
            if name in self._watches:
                self._watches[name].load(saved)


def _number(value: Any) -> float | None:
    """Return a finite number, or None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
