"""The result of an attack as text: each exploit, which members gave it its score, and what would close it."""

from collections.abc import Mapping
from dataclasses import dataclass

_LONGEST_EXAMPLE = 160  # characters
_MOST_ALSO = 5


@dataclass(frozen=True, slots=True)
class Exploit:
    """A completion that scores well without a right answer."""

    total: float  # weighted, averaged over the problems
    deviations: tuple[str, ...]  # how it differs from an honest mistake
    scored_by: Mapping[str, tuple[float, float]]  # member: its score of the exploit and of an honest mistake
    abstained: Mapping[str, str]  # member: why it gave the exploit no score
    also: tuple[str, ...]  # other deviations that the same members score high
    closed_by: tuple[str, ...]  # what would close it
    example: str  # for one problem


@dataclass(frozen=True, slots=True)
class AttackReport:
    """What an attack found."""

    exploits: tuple[Exploit, ...]  # the highest total first
    gold: float  # total of right completions
    mistake: float  # total of the best honest mistake
    num_strategies: int
    num_problems: int
    seconds: float
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no exploit was found."""
        return not self.exploits

    def titles(self) -> list[str]:
        """Return a line for each exploit: its score, and how it differs from an honest mistake."""
        return [
            f"{number} scores {exploit.total:.4g}: {'; '.join(exploit.deviations)}"
            for number, exploit in enumerate(self.exploits, start=1)
        ]

    def text(self) -> str:
        """Return the exploits and the totals that they are compared with as text."""
        tried = (
            f"attack: {self.num_strategies:,} strategies on {self.num_problems} problems in {self.seconds:.0f} s; "
            f"a right completion scores {self.gold:.3g}, an honest mistake {self.mistake:.3g}"
        )
        lines = [tried, *(f"note  {warning}" for warning in self.warnings)]
        for title, exploit in zip(self.titles(), self.exploits, strict=True):
            lines += ["", f"EXPLOIT {title}", *_details(exploit)]
        lines += ["", f"{len(self.exploits)} found" if self.exploits else "no exploit found"]
        return "\n".join(lines)


def _details(exploit: Exploit) -> list[str]:
    lines = [
        f"  rewards.{name} gives {score:.3g}, and {mistake:.3g} to an honest mistake"
        for name, (score, mistake) in exploit.scored_by.items()
    ]
    lines += [
        f"  rewards.{name} abstains ({reason}): in training that counts as the mean of its group"
        for name, reason in exploit.abstained.items()
    ]
    shown = (
        exploit.example
        if len(exploit.example) <= _LONGEST_EXAMPLE
        else exploit.example[:_LONGEST_EXAMPLE] + "..."
    )
    if exploit.also:
        more = f" and {len(exploit.also) - _MOST_ALSO} more" if len(exploit.also) > _MOST_ALSO else ""
        lines.append(f"  as well: {'; '.join(exploit.also[:_MOST_ALSO])}{more}")
    lines.append(f"  for example {shown!a}")
    lines += [f"  to close it: {advice}" for advice in exploit.closed_by]
    return lines
