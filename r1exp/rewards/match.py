"""Scores an answer by its text: equal to a gold text, overlapping with one, or matching a pattern.

    exact  1 if the normalized answer equals a normalized gold text, else 0
    f1     2 p r / (p + r) of the words that the answer shares with a gold text; the best over all gold texts
    regex  1 if the whole answer matches the pattern, else 0

Gold texts are the gold answer and those of the column `aliases`. Before texts are compared they are normalized:

    squad  SQuAD's evaluation script, whose exact match and F1 these are (arXiv:1606.05250): lower case; the
           punctuation of ASCII, the articles a, an, the and further spaces deleted; words end at spaces
    text   the same with Unicode (NFKC, case folding, every script's punctuation), and with two differences: a word that
           contains a digit keeps the punctuation inside and before it, so that 1.5 is not 15 and -5 is not 5; in
           scripts without spaces each character is a word, as in MLQA (arXiv:1910.07475)
    none   the text as it is

A pattern is one setting for all rows, or a column. Its time and memory are bounded (`r1exp.rewards.patterns`): an answer
that it cannot be compared with in time is wrong, and a pattern that cannot be read abstains.
"""

import re
import string
import unicodedata
from collections import Counter
from typing import ClassVar, Final, Literal, Self

from pydantic import model_validator

from r1exp.prompt.settings import StyleName
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, Abstain, Context, Reward, Score, Span
from r1exp.rewards.patterns import UnreadablePattern, compiled, matches
from r1exp.rewards.reading import Read, reply_in, texts_in
from r1exp.rewards.scripts import is_spaceless
from r1exp.settings import Name

UNREADABLE_PATTERN: Final = Abstain("pattern unreadable")
_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")
_ASCII_PUNCTUATION: Final = frozenset(string.punctuation)
_AROUND: Final = "\"'“”‘’()[]{}*_`"  # what may surround a word that contains a digit
_AFTER: Final = ".,;:!?。，；：！？"  # and what may follow it
_LONGEST: Final = 20_000  # characters; a longer answer scores 0


class Match(Reward):
    """Compares the text of the answer with gold texts or with a pattern."""

    kind: Literal["match"] = "match"
    style: StyleName  # decides where the answer is read
    read: Read = "style"  # style: the answer's place; whole: all that follows the reasoning
    by: Literal["exact", "f1", "regex"] = "exact"
    normalize: Literal["text", "squad", "none"] = "text"  # exact and f1: how texts are normalized
    aliases: Name | None = None  # column with further gold texts; null: the gold answer alone
    pattern: str | None = None  # regex: a regular expression for all rows
    pattern_column: Name | None = (
        None  # regex: column with each row's regular expression, instead of `pattern`
    )
    judges_correctness: ClassVar[bool] = True
    needs_gold: ClassVar[bool] = False  # a pattern is enough

    @model_validator(mode="after")
    def _has_a_pattern_for_regex_alone(self) -> Self:
        given = [name for name in ("pattern", "pattern_column") if getattr(self, name) is not None]
        if len(given) != (self.by == "regex"):
            raise ValueError(
                f"by={self.by} with {' and '.join(given) or 'no pattern'}: by=regex needs a pattern or a "
                "pattern_column, one of the two, and exact and f1 need none"
            )
        if self.pattern is not None:
            try:
                compiled(self.pattern)
            except UnreadablePattern as error:
                raise ValueError(f"pattern={self.pattern!r} cannot be used: {error}") from error
        return self

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def gold_answer(self, problem: Problem) -> str | None:
        return next(iter(self._golds(problem)), None)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del context
        if self.by == "regex":
            return self._score_by_pattern(problem, completion)
        golds = self._golds(problem)
        if not golds:
            return NO_GOLD
        answer = reply_in(completion.text, self.style, self.read)
        if answer is None or len(answer) > _LONGEST + 10 * max(map(len, golds)):
            return 0.0
        words = self._words(answer)
        if self.by == "exact":
            return float(any(words == self._words(gold) for gold in golds))
        return max(_f1(words, self._words(gold)) for gold in golds)

    def _score_by_pattern(self, problem: Problem, completion: Completion) -> Score:
        pattern = self.pattern if self.pattern_column is None else problem.columns.get(self.pattern_column)
        if not isinstance(pattern, str):
            return NO_GOLD
        try:
            found = compiled(pattern)
        except UnreadablePattern:
            return UNREADABLE_PATTERN
        answer = reply_in(completion.text, self.style, self.read)
        return 0.0 if answer is None else float(bool(matches(found, answer, whole=True)))

    def _golds(self, problem: Problem) -> list[str]:
        """Return the gold texts: the gold answer, then the aliases."""
        own = [] if problem.answer is None else [problem.answer]
        further = [] if self.aliases is None else texts_in(problem.columns.get(self.aliases))
        return list(dict.fromkeys(text.strip() for text in [*own, *further] if text.strip()))

    def _words(self, text: str) -> list[str]:
        if self.normalize == "none":
            return [text.strip()] if self.by == "exact" else text.split()
        if self.normalize == "squad":
            return squad_words(text)
        return text_words(text) or [text.strip().casefold()]


def squad_words(text: str) -> list[str]:
    """Return the words of a text as SQuAD's evaluation script normalizes it."""
    kept = "".join(character for character in text.lower() if character not in _ASCII_PUNCTUATION)
    return _ARTICLES.sub(" ", kept).split()


def text_words(text: str) -> list[str]:
    """Return the words of a text in any script, in one spelling of case and width, without punctuation."""
    words: list[str] = []
    for part in unicodedata.normalize("NFKC", text.replace("\N{MINUS SIGN}", "-")).casefold().split():
        if any(character.isdecimal() for character in part):
            words.append(part.strip(_AROUND).rstrip(_AFTER).strip(_AROUND))
        else:
            bare = "".join(character for character in part if not _is_punctuation(character))
            words += _ARTICLES.sub(" ", bare).split()
    return [piece for word in words for piece in _characters(word)]


def _is_punctuation(character: str) -> bool:
    return character in _ASCII_PUNCTUATION or unicodedata.category(character)[0] == "P"


def _characters(word: str) -> list[str]:
    """Return each character of scripts without spaces by itself, and the runs of others."""
    pieces: list[str] = []
    run = ""
    for character in word:
        if is_spaceless(character):
            pieces += [run, character]
            run = ""
        else:
            run += character
    return [piece for piece in [*pieces, run] if piece]


def _f1(answer: list[str], gold: list[str]) -> float:
    """Return the harmonic mean of precision and recall of the words; where a text has no words, whether both have none."""
    if not answer or not gold:
        return float(answer == gold)
    shared = sum((Counter(answer) & Counter(gold)).values())
    return 2.0 * shared / (len(answer) + len(gold))
