"""Measures in which language a text is written."""

from collections.abc import Sequence
from functools import cache

from r1exp.rewards.language_consistency import Language, LanguageConsistency
from r1exp.rewards.scripts import is_spaceless, words_by_script


def largest_share(text: str, languages: Sequence[Language]) -> float | None:
    """Return the largest share of the text's words that is in one of the languages; None for a text without words.

    As in the reward language_consistency, numbers, formulas, code, tags and single letters are no words.
    """
    share = max((_reader(language).share(text) for language in languages), default=0.0)
    return None if share == 0.0 and not _has_words(text) else share


def _has_words(text: str) -> bool:
    return any(len(word) > 1 or is_spaceless(word) for _, word in words_by_script(text))


@cache
def _reader(language: Language) -> LanguageConsistency:
    return LanguageConsistency(style="plain", language=language)
