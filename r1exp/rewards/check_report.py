"""The result of a check: the table of scores, what is wrong, and the time that scoring takes."""

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """The scores of one kind of completion, averaged over the problems whose completion was scored."""

    probe: str
    scores: dict[str, float | None]  # member: mean; None: it scored no problem
    total: float | None  # weighted, over the problems that every weighted member scored; None: there is none
    abstained: dict[str, Counter[str]]  # member: reason -> number of problems


@dataclass(frozen=True, slots=True)
class Report:
    """The table of scores, what is wrong, and the time that scoring takes."""

    lines: tuple[Line, ...]
    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    num_problems: int
    seconds_per_batch: float

    @property
    def ok(self) -> bool:
        """Whether the committee passed."""
        return not self.failures

    def text(self) -> str:
        """Return what is wrong, the table and the verdict as text."""
        problems = f"{self.num_problems} problem" + ("" if self.num_problems == 1 else "s")
        return "\n".join(
            [
                *(f"FAILED {failure}" for failure in self.failures),
                *([""] if self.failures else []),
                *_aligned(
                    [["completion", *self.lines[0].scores, "total"], *(_row(line) for line in self.lines)]
                ),
                "",
                *(f"abstained  {line}" for line in self._abstentions()),
                *(f"note  {warning}" for warning in self.warnings),
                f"means over {problems}; about {self.seconds_per_batch:.2g} s a batch",
                "passed" if self.ok else "failed",
            ]
        )

    def _abstentions(self) -> list[str]:
        """Return one line for each member that abstained: on how many completions, and why."""
        counts: dict[str, Counter[str]] = {}
        for line in self.lines:
            for name, reasons in line.abstained.items():
                counts.setdefault(name, Counter()).update(reasons)
        return [
            f"rewards.{name} on {reasons.total()} completions: "
            + ", ".join(f"{reason} {number}x" for reason, number in reasons.most_common())
            for name, reasons in counts.items()
        ]


def _row(line: Line) -> list[str]:
    cells = []
    for name, score in line.scores.items():
        if score is not None:
            cells.append(f"{score:.3f}")
        else:
            cells.append("abstained" if line.abstained.get(name) else "-")
    return [line.probe, *cells, "-" if line.total is None else f"{line.total:.3f}"]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
