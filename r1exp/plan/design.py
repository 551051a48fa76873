"""Chooses the members of a sweep by a design: which combinations of the listed values run (`sweep.design`).

The overrides that list several values are the factors. A list of seeds is none: every combination runs with every seed.
`<sweep>/design.json` holds what the report needs: factors, combinations, and which effects cannot be told apart.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from r1exp.config.overrides import Override
from r1exp.errors import Refused
from r1exp.statistics import designs
from r1exp.statistics.designs import NoDesignError, Rows

_STEP_SEED = re.compile(r"pipeline\.steps\.[^.]+\.set\.seed")


@dataclass(frozen=True)
class Factor:
    """An override with several values."""

    name: str  # the end of its key, as long as it takes to tell it from the others
    texts: tuple[str, ...]  # one override for each value

    @property
    def values(self) -> tuple[str, ...]:
        """The values as text."""
        return tuple(text.partition("=")[2] for text in self.texts)


@dataclass(frozen=True)
class Design:
    """Which combinations of the factors' values run."""

    kind: str
    factors: tuple[Factor, ...]
    rows: Rows
    resolution: int | None = (
        None  # of factors with two values; None: all combinations run, or factors have more values
    )
    generators: str | None = None  # of a fraction

    @property
    def num_combinations(self) -> int:
        """How many combinations there are in all."""
        number = 1
        for factor in self.factors:
            number *= len(factor.texts)
        return number

    def name_of(self, effect: Sequence[int]) -> str:
        """Return a main effect or an interaction as text."""
        return " x ".join(self.factors[index].name for index in effect)

    def confounded(self) -> list[str]:
        """Return which effects of one or two factors the runs cannot tell apart, as text."""
        if len(self.rows) == self.num_combinations:
            return []
        if self.kind == "latin":
            return ["every main effect with the interaction of the two other factors"]
        found = [" = ".join(map(self.name_of, group)) for group in designs.confounded(self.rows)]
        part = designs.partly_confounded(self.rows)
        if part:
            found.append(f"every main effect with {part:.2g} of each interaction of two other factors")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the content of design.json."""
        return {
            "kind": self.kind,
            "factors": [{"name": factor.name, "overrides": list(factor.texts)} for factor in self.factors],
            "combinations": [list(row) for row in self.rows],
            "of": self.num_combinations,
            "resolution": self.resolution,
            "generators": self.generators,
            "confounded": self.confounded(),
        }


def is_seed(override: Override) -> bool:
    """Whether an override sets the seed, of the run or of a step."""
    return override.key == "seed" or _STEP_SEED.fullmatch(override.key) is not None


Expand = Callable[[Sequence[str]], list[tuple[str, ...]]]  # overrides -> all combinations


def designed(
    overrides: Sequence[Override], expanded: Expand, kind: str, resolution: int | None
) -> Design | None:
    """Return the design of a sweep; None if all combinations of fewer than two factors run.

    Args:
        overrides: Of the command line and the sweep file.
        expanded: Expands overrides into all combinations.
        kind: `sweep.design`.
        resolution: `sweep.resolution`.

    Raises:
        Refused: the factors do not fit the design.
    """
    swept = [override for override in overrides if override.is_sweep and not is_seed(override)]
    listed = {override.text: expanded([override.text]) for override in swept}
    swept = [override for override in swept if len(listed[override.text]) > 1]
    if resolution is not None and kind != "fractional":
        raise Refused(
            f"sweep.resolution={resolution} is of a fractional design, and sweep.design={kind}; type sweep.design=fractional, or "
            "leave sweep.resolution out"
        )
    if kind == "full" and len(swept) < 2:
        return None
    names = _names([override.key for override in swept])
    factors = tuple(
        Factor(name, tuple(text for (text,) in listed[override.text]))
        for name, override in zip(names, swept, strict=True)
    )
    levels = [len(factor.texts) for factor in factors]
    try:
        return _design(kind, factors, levels, resolution)
    except NoDesignError as error:
        raise Refused(f"sweep.design={kind}: {error}. {_what_to_type(kind, factors)}") from error


def _design(kind: str, factors: tuple[Factor, ...], levels: Sequence[int], resolution: int | None) -> Design:
    if kind == "full":
        return Design(kind, factors, designs.full(levels))
    if kind == "latin":
        return Design(kind, factors, designs.latin(levels))
    if any(number != 2 for number in levels):
        raise NoDesignError(
            "it takes factors with two values each, and these have "
            + ", ".join(f"{factor.name}: {len(factor.texts)}" for factor in factors)
        )
    if kind == "fractional":
        rows, generators = designs.fractional(len(factors), resolution or min(4, len(factors)))
        return Design(kind, factors, rows, designs.resolution_of(rows), generators)
    rows = designs.plackett_burman(len(factors))
    return Design(kind, factors, rows, designs.resolution_of(rows) if len(rows) & (len(rows) - 1) == 0 else 3)


def _what_to_type(kind: str, factors: Sequence[Factor]) -> str:
    if not factors:
        return "List values: -m rewards.format.weight=0,1 beta=0,0.01 learning_rate=1e-5,1e-4"
    if kind in ("fractional", "plackett_burman") and any(len(factor.texts) > 2 for factor in factors):
        key, _, _ = next(factor.texts[0] for factor in factors if len(factor.texts) > 2).partition("=")
        return f"Type two values of {key}, or sweep.design=full for all combinations"
    return "Type sweep.design=full for all combinations, or list values of more or fewer keys"


def _names(keys: Sequence[str]) -> list[str]:
    """Return the end of each key, as long as it takes to tell them apart."""
    found = []
    for key in keys:
        parts = key.split(".")
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[-length:])
            others = [".".join(other.split(".")[-length:]) for other in keys if other != key]
            if name not in others:
                break
        # Of `rewards.graded.weight` the last part alone says nothing.
        found.append(".".join(parts[-max(length, min(2, len(parts))) :]) if len(parts) > 1 else name)
    return found


def combinations_of(
    overrides: Sequence[Override], expanded: Expand, design: Design | None
) -> list[tuple[str, ...]]:
    """Return the overrides of each member: each combination of the design with each of the other lists, as seeds."""
    texts = [override.text for override in overrides]
    if design is None or design.kind == "full":
        return expanded(texts)
    listed = {override.text: expanded([override.text]) for override in overrides if override.is_sweep}
    factors = [
        next(text for text, values in listed.items() if tuple(value for (value,) in values) == factor.texts)
        for factor in design.factors
    ]
    others = [text for text in listed if text not in factors]
    found = []
    for row in design.rows:
        chosen = {
            text: factor.texts[level]
            for text, factor, level in zip(factors, design.factors, row, strict=True)
        }
        for repeated in product(*(listed[text] for text in others)):
            given = chosen | {text: value for text, (value,) in zip(others, repeated, strict=True)}
            found.append(tuple(given.get(text, text) for text in texts))
    return found
