"""Splits a text into words and finds the script of each.

A word is a run of letters in scripts with spaces, and a single character in Chinese, Japanese, Thai,
Lao, Khmer and Burmese, which are written without spaces. Both functions pass over the text once.
"""

import re
from collections.abc import Iterator
from typing import Final

_SPACELESS: Final = {
    "han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f\u3005\u3007",
    "kana": "\u3041-\u309f\u30a1-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "thai": "\u0e01-\u0e3a\u0e40-\u0e4e",
    "lao": "\u0e81-\u0edf",
    "khmer": "\u1780-\u17d3",
    "burmese": "\u1000-\u109f",
}
_SPACED: Final = {
    "hangul": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "cyrillic": "\u0400-\u052f",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "arabic": "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff",
    "hebrew": "\u0590-\u05ff",
    "devanagari": "\u0900-\u097f",
    "latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
}
_EVERY_SPACELESS: Final = "".join(_SPACELESS.values())
_SCRIPTS: Final = re.compile(
    "|".join(
        [f"(?P<{name}>[{letters}])" for name, letters in _SPACELESS.items()]
        + [f"(?P<{name}>[{letters}]+)" for name, letters in _SPACED.items()]
        + [rf"(?P<other>(?:(?![{_EVERY_SPACELESS}])[^\W\d_])+)"]
    )
)
_SPACELESS_CHARACTER: Final = re.compile(f"[{_EVERY_SPACELESS}]")
_MARKS: Final = "\u0300-\u036f\u0900-\u0dff"  # accents and Indic vowel signs, which \\w does not match
_WORDS: Final = re.compile(rf"[{_EVERY_SPACELESS}]|(?:(?![{_EVERY_SPACELESS}])[\w'’{_MARKS}])+")


def words(text: str) -> list[str]:
    """Return the words of `text` in lower case, numbers among them, without punctuation."""
    return _WORDS.findall(text.lower())


def words_as_written(text: str) -> list[str]:
    """Return the words of `text`, numbers among them, without punctuation, in the case in which they are written."""
    return _WORDS.findall(text)


def is_spaceless(character: str) -> bool:
    """Return whether a character belongs to a script that is written without spaces between words."""
    return _SPACELESS_CHARACTER.fullmatch(character) is not None


def words_by_script(text: str) -> Iterator[tuple[str, str]]:
    """Yield (script, word) for every word made of letters; a word in two scripts is split in two."""
    for match in _SCRIPTS.finditer(text):
        assert match.lastgroup is not None
        yield match.lastgroup, match[0]
