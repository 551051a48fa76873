"""Numbers of a report that know where they are from: the path of a value in summary.json, and how it is written.

Tables and sentences hold these instead of text, so that the page, the Markdown, CSV and LaTeX write the same value, and a test
can compare each with summary.json. Torch-free.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Style = Literal["percent", "points", "p", "count", "seconds", "plain"]


@dataclass(frozen=True, slots=True)
class Number:
    """A value of summary.json."""

    path: tuple[str, ...]
    value: float
    style: Style = "plain"

    @property
    def text(self) -> str:
        """How the value is written, without its unit."""
        value = self.value
        if self.style == "percent":
            return f"{100 * value:.1f}"
        if self.style == "points":
            return f"{100 * value:+.1f}"
        if self.style == "count":
            return f"{value:,.0f}"
        if self.style == "seconds":
            return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
        return f"{value:.2g}" if self.style == "p" else f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval, drawn on a scale."""

    value: Number
    low: Number
    high: Number
    scale: tuple[float, float] = (0.0, 1.0)

    @property
    def text(self) -> str:
        """The value with its interval in brackets."""
        return f"{self.value.text} [{self.low.text}, {self.high.text}]"

    def place(self, value: float) -> float:
        """Return where a value is on the scale, in percent of its width."""
        low, high = self.scale
        return round(100 * min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0), 2)


@dataclass(frozen=True, slots=True)
class Code:
    """A text that was typed, or a name of the configuration."""

    text: str


Cell = str | Number | Interval | Code
Sentence = Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a report. The first column names the row."""

    name: str  # of its files, for example `accuracy`
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def text_of(sentence: Sentence) -> str:
    """Return a sentence as plain text."""
    return "".join(part if isinstance(part, str) else part.text for part in sentence)


def value_at(content: Any, path: Sequence[str]) -> Any:
    """Return what is at a path of a summary, of which an index of a list is a text; None where nothing is there."""
    for name in path:
        if isinstance(content, list):
            content = content[int(name)]
        else:
            content = content.get(name) if isinstance(content, Mapping) else None
    return content


def number_at(content: Mapping[str, Any], path: Sequence[str], style: Style = "plain") -> Number | None:
    """Return the number at a path of a summary; None where there is none."""
    value = value_at(content, path)
    return (
        None
        if isinstance(value, bool) or not isinstance(value, int | float)
        else Number(tuple(path), value, style)
    )


def interval_at(
    content: Mapping[str, Any],
    path: Sequence[str],
    style: Style,
    value: str = "value",
    scale: tuple[float, float] = (0.0, 1.0),
) -> Cell:
    """Return the interval at a path of a summary; its value alone where it has no bounds, and an empty text without a value."""
    middle = number_at(content, [*path, value], style)
    low, high = (number_at(content, [*path, bound], style) for bound in ("low", "high"))
    if middle is None:
        return ""
    if low is None or high is None or low.value == middle.value == high.value:  # of one seed
        return middle
    return Interval(middle, low, high, scale)
