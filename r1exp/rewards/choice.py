"""Scores 1 if the answer is the right option of a multiple-choice question, else 0.

The column `options` holds the options: a list of texts (MMLU), or labels with texts (ARC: {"label": [...], "text": [...]}).
The gold answer is a letter (GPQA as it is usually prepared, A to D), the text of an option, or its index (MMLU: 0 to 3).
An answer is a letter in any of the usual forms, `(C)`, `C.`, `**C**`, `\\boxed{C}`, `The answer is C`, or the text of one
option. Several letters, or a letter with the text of another option, are wrong.
Sources: MMLU (arXiv:2009.03300), GPQA (arXiv:2311.12022), ARC (arXiv:1803.05457). `r1exp.judgement.choices` reads letters.

The prompt must show the options: a data set whose question does not contain them is prepared first (docs/rewards.md).
"""

import re
from typing import ClassVar, Final, Literal

from pydantic import NonNegativeInt

from r1exp.judgement.choices import LETTERS, read_choices
from r1exp.prompt.settings import StyleName
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, UNREADABLE_GOLD, Abstain, Context, Reward, Score, Span
from r1exp.rewards.match import text_words
from r1exp.rewards.reading import Read, reply_in, texts_in
from r1exp.settings import Name

AMBIGUOUS_GOLD: Final = Abstain("gold ambiguous")
UNREADABLE_OPTIONS: Final = Abstain("options unreadable")
_STATED: Final = re.compile(r"(?:answer|choice|option)(?: is)?\s{0,5}[:：]?\s{0,5}([^\n]{1,200})|答案(?:是|为)?[:：]?\s{0,5}([^\n]{1,200})", re.I)  # fmt: skip
_LONGEST: Final = 20_000  # characters; a longer answer scores 0


class Choice(Reward):
    """Compares the chosen option with the gold one."""

    kind: Literal["choice"] = "choice"
    style: StyleName  # decides where the answer is read
    # style: the answer's place; whole: what follows the last "answer is" or "answer:" after the reasoning, else the last line
    read: Read = "style"
    options: Name | None = None  # column of the options; null: letters alone, from A to J
    gold: Literal["auto", "letter", "text", "index"] = (
        "auto"  # auto: whichever of the three the gold answer can be
    )
    first_index: NonNegativeInt = 0  # gold as an index: that of the first option
    judges_correctness: ClassVar[bool] = True

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del context
        found = self._options(problem)
        if isinstance(found, Abstain):
            return found
        gold = self._gold(problem, found)
        if isinstance(gold, Abstain):
            return gold
        reply = reply_in(completion.text, self.style, self.read)
        if reply is None or len(reply) > _LONGEST + 10 * sum(map(len, found)):
            return 0.0
        return float(_chosen(_stated(reply) if self.read == "whole" else reply, found) == gold)

    def gold_answer(self, problem: Problem) -> str | None:
        """Return the letter of the gold option."""
        found = self._options(problem)
        gold = found if isinstance(found, Abstain) else self._gold(problem, found)
        return None if isinstance(gold, Abstain) else LETTERS[gold]

    def cheats(self, problem: Problem) -> dict[str, str]:
        """Return all letters, and the texts of all options."""
        found = self._options(problem)
        if isinstance(found, Abstain) or len(found) < 2:
            return {}
        cheats = {"every letter": " or ".join(LETTERS[: len(found)])}
        return {**cheats, "every option": " ".join(found)} if any(found) else cheats

    def _options(self, problem: Problem) -> list[str] | Abstain:
        """Return the texts of the options in order; empty texts where only letters are known."""
        if self.options is None:
            return [""] * len(LETTERS)
        value = problem.columns.get(self.options)
        if isinstance(value, dict) and "label" not in value and "text" not in value:
            value = [value[key] for key in sorted(value) if value[key] is not None]
        texts = texts_in(value)
        return texts if 2 <= len(texts) <= len(LETTERS) else UNREADABLE_OPTIONS

    def _gold(self, problem: Problem, options: list[str]) -> int | Abstain:
        """Return the index of the gold option, from 0."""
        if problem.answer is None:
            return NO_GOLD
        gold = problem.answer.strip()
        readings: dict[str, int] = {}
        letters = read_choices(gold, LETTERS[: len(options)])
        if len(letters) == 1 and len(re.sub(r"\W", "", gold)) == 1:
            readings["letter"] = LETTERS.index(letters[0])
        same = [place for place, text in enumerate(options) if text and text_words(text) == text_words(gold)]
        if len(same) == 1:
            readings["text"] = same[0]
        place = int(gold) - self.first_index if re.fullmatch(r"[0-9]{1,2}", gold) else -1
        if 0 <= place < len(options):
            readings["index"] = place
        if self.gold != "auto":
            return readings.get(self.gold, UNREADABLE_GOLD)
        places = set(readings.values())
        return UNREADABLE_GOLD if not places else AMBIGUOUS_GOLD if len(places) > 1 else places.pop()


def _chosen(answer: str, options: list[str]) -> int | None:
    """Return the index of the option that an answer chooses; None where it chooses none, or several."""
    words = text_words(answer)
    as_text = [place for place, text in enumerate(options) if text and words == text_words(text)]
    if len(as_text) == 1 and len("".join(words)) > 1:  # a single letter is a letter first
        return as_text[0]
    letters = read_choices(answer, LETTERS[: len(options)])
    if len(letters) != 1:
        return as_text[0] if len(as_text) == 1 and not letters else None
    place = LETTERS.index(letters[0])
    rest = [word for word in words if word != letters[0].lower()]
    others = (text_words(text) for other, text in enumerate(options) if other != place and text)
    own = text_words(options[place]) if options[place] else []
    return None if rest and rest != own and any(rest == other for other in others) else place


def _stated(reply: str) -> str:
    """Return what follows the last "answer is" of a reply, else its last line."""
    found = _STATED.findall(reply)
    return "".join(found[-1]) if found else reply.rpartition("\n")[2]
