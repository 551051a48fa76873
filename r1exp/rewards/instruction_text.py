"""Counts words and sentences of a reply in any script, and finds its language.

words      in scripts with spaces, runs of letters, digits and marks (so that a Hindi word is one); of Chinese and
           Japanese every character; of Thai the words that BudouX finds; of Lao, Khmer and Burmese, which no small
           library splits, every cluster of a letter with its signs
sentences  pieces that end in one of . ! ? … and the marks of other scripts; the period of an abbreviation, an
           initial or a list's number ends none
language   of a text with letters, by py3langid (naive Bayes over bytes)
"""

from functools import cache
from typing import Any, Final

import regex

_LONGEST_DETECTED: Final = 10_000  # characters that the language is found from
_TOKENS: Final = regex.compile(
    r"(?V1)(?P<character>[\p{Han}\p{Hiragana}\p{Katakana}])|(?P<thai>\p{Thai}+)|(?P<cluster>[\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*)"
    r"|(?P<word>[\w--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]+)"
)
_ENDS: Final = regex.compile(r"[.!?…]+[\"'”’»)\]*_]*(?=\s|$)|[。！？｡؟۔।॥។။]+[」』”’）\"]*")
_LAST_WORD: Final = regex.compile(r"[\w.]{0,20}$")
_SHORT: Final = (
    "mr mrs ms dr prof rev gen sen rep st jr sr vs etc e.g i.e cf al fig no vol pp inc ltd co corp dept est approx a.m p.m "
    "u.s u.k u.n ph.d b.c a.d jan feb mar apr jun jul aug sep sept oct nov dec bzw z.b usw ca dr.h.c sra srta"
)
_ABBREVIATIONS: Final = frozenset(_SHORT.split())
_LIST_NUMBER: Final = regex.compile(r"(?:^|\n)[ \t>*_-]{0,10}(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,5})$")
_LETTER: Final = regex.compile(r"\p{L}")
# Those of IFEval, and others that are often written.
_CODES: Final = (
    "af ar bg bn ca cs da de el en es et fa fi fr gu he hi hr hu id it ja kn ko lt lv mk ml mr ne nl no pa pl pt ro ru sk sl "
    "sq sv sw ta te th tl tr uk ur vi zh"
)
LANGUAGES: Final = tuple(_CODES.split())


def count_words(text: str) -> int:
    """Return the number of words of a text."""
    num_words = 0
    for match in _TOKENS.finditer(text):
        num_words += _num_thai_words(match[0]) if match.lastgroup == "thai" else 1
    return num_words


def count_sentences(text: str) -> int:
    """Return the number of sentences of a text; text after the last end mark is one."""
    num_sentences = start = 0
    for match in _ENDS.finditer(text):
        if match[0].startswith(".") and not match[0].startswith("..") and _is_within(text, start, match):
            continue
        if regex.search(r"\w", text, pos=start, endpos=match.start()):
            num_sentences += 1
        start = match.end()
    return num_sentences + bool(regex.search(r"\w", text, pos=start))


def language_of(text: str) -> str | None:
    """Return the ISO 639-1 code of a text's language; None for a text without letters."""
    if _LETTER.search(text) is None:
        return None
    code, _ = _detector().classify(text[:_LONGEST_DETECTED].lower())
    return str(code)


def _is_within(text: str, start: int, end: Any) -> bool:
    """Return whether a period belongs to an abbreviation, an initial or the number of a list's item."""
    before = text[max(start, end.start() - 40) : end.start()]
    found = _LAST_WORD.search(before)
    word = found[0].lower() if found else ""
    follows = text[end.end() : end.end() + 40].lstrip()
    if not follows:
        return False
    is_initial = len(word) == 1 and word.isalpha() and word != "i"
    return word in _ABBREVIATIONS or is_initial or _LIST_NUMBER.search(before) is not None


@cache
def _thai_parser() -> Any:
    import budoux

    return budoux.load_default_thai_parser()


def _num_thai_words(text: str) -> int:
    pieces = (text[start : start + 2000] for start in range(0, len(text), 2000))
    return sum(len(_thai_parser().parse(piece)) for piece in pieces)


@cache
def _detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped] # half a second

    detector = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=False)
    detector.set_languages(list(LANGUAGES))
    return detector
