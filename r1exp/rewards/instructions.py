"""Scores how many of a prompt's verifiable instructions a reply follows: IFEval's 25 kinds.

    level=prompt       1 if the reply follows all instructions, else 0
    level=instruction  the share of the instructions that it follows
    mode=loose         an instruction counts as followed if the reply follows it, or one of seven variants: without its
                       first line, its last line or both, and all of these without asterisks

Two columns say what to follow, as in the data set google/IFEval: `instruction_id_list`, names such as punctuation:no_comma, and
`kwargs`, for each its arguments. A name that is not known, or arguments that are missing, are the data's fault: the
reward abstains. Source: Instruction-Following Evaluation (arXiv:2311.07911).
"""

from collections.abc import Callable
from typing import ClassVar, Final, Literal

from r1exp.prompt.settings import StyleName
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context, Reward, Score, Span
from r1exp.rewards.instruction_kinds import UnknownInstructionError, checked
from r1exp.rewards.reading import Read, column_as_json, reply_in
from r1exp.settings import Name

NO_INSTRUCTIONS: Final = Abstain("no instructions")
UNKNOWN: Final = Abstain("instruction unknown")
UNREADABLE: Final = Abstain("instruction unreadable")
_LONGEST: Final = 100_000  # characters; a longer reply scores 0


class Instructions(Reward):
    """Checks a reply against the instructions of its prompt."""

    kind: Literal["instructions"] = "instructions"
    style: StyleName  # decides where the reply is read
    read: Read = "style"  # style: the answer's place; whole: all that follows the reasoning
    level: Literal["prompt", "instruction"] = "prompt"  # all instructions, or the share of them
    mode: Literal["strict", "loose"] = "strict"  # the reply itself, or the best of its eight variants
    ids: Name = "instruction_id_list"  # column of the names of the instructions
    arguments: Name = "kwargs"  # column of their arguments
    judges_correctness: ClassVar[bool] = True
    needs_gold: ClassVar[bool] = False  # the instructions are enough

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del context
        checks = self._checks(problem)
        if isinstance(checks, Abstain):
            return checks
        reply = reply_in(completion.text, self.style, self.read)
        if reply is None or len(reply) > _LONGEST:
            return 0.0
        variants = _variants(reply) if self.mode == "loose" else [reply]
        followed = [any(check(variant) for variant in variants) for check in checks]
        return float(all(followed)) if self.level == "prompt" else sum(followed) / len(followed)

    def _checks(self, problem: Problem) -> list[Callable[[str], bool]] | Abstain:
        """Return a check of a reply for each instruction of the row."""
        if not problem.columns.get(self.ids):
            return NO_INSTRUCTIONS
        try:
            names = column_as_json(problem, self.ids)
            arguments = column_as_json(problem, self.arguments)
            if not isinstance(names, list) or not isinstance(arguments, list) or len(names) != len(arguments):
                return UNREADABLE
            return [_check(str(name), given or {}) for name, given in zip(names, arguments, strict=True)]
        except UnknownInstructionError:
            return UNKNOWN
        except (ValueError, AttributeError):
            return UNREADABLE


def _check(name: str, arguments: dict[str, object]) -> Callable[[str], bool]:
    kind = checked(name, arguments)
    return lambda reply: kind.follows(reply, arguments)


def _variants(reply: str) -> list[str]:
    """Return the reply and its seven variants, without those that are blank or equal."""
    lines = reply.split("\n")
    parts = [reply, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    both = [*parts, *(part.replace("*", "") for part in parts)]
    return [part for part in dict.fromkeys(both) if part.strip()]
