r"""Takes the formatting off an answer: Markdown, LaTeX delimiters and boxes, lead-ins, the period at the end.

`**42**`, `$42$`, `\boxed{42}`, `The answer is 42.` and `答案是42` all become `42`. No digit, letter or sign of a formula is
changed. Linear in the text's length.
"""

import re
from typing import Final

_MOST_LAYERS: Final = 8  # of formatting around one answer; deeper ones are left
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full-width forms of ASCII
_CHARACTERS: Final = {
    **_WIDE,
    **dict.fromkeys(map(ord, "\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\u3000"), " "),
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"), None),  # invisible
    **dict.fromkeys(map(ord, "\u2212\u2010\u2011\ufe63"), "-"),
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e"), '"'),
    ord("【"): "[",
    ord("】"): "]",
    ord("。"): ".",
    ord("、"): ",",
}
_LEAD_IN: Final = re.compile(
    r"(?:(?:so|thus|hence|therefore|then|finally|in conclusion)\b,?\s*)?"
    r"(?:(?:the|my|our)\s+)?(?:(?:final|correct|right|best)\s+)?(?:answer|result|solution|choice|option)\b"
    r"(?:\s+(?:is|are|equals|would be|should be|must be)\b\s*:?|\s*[:=])\s*"
    r"|(?:因此|所以|故|综上)?,?(?:最终|最后|正确)?(?:的)?(?:答案|结果|答|选项)(?:应该|应)?(?:是|为|选|:)+:?\s*"
    r"|(?:因此|所以|故)?(?:应该|应)?选(?:择)?:?(?=\s*\(?[A-Z]\b)\s*"
    r"|(?:it is|it's|that is|this is|therefore|thus|hence|so|because|=|因此|所以)[\s:,]\s*",
    re.IGNORECASE,
)
_SPACED_DIGITS: Final = re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")
_BOLD: Final = re.compile(r"(?<![\w)*])\*\*([^*\n]{1,500})\*\*(?![\w(*])")
_PAIRS: Final = (
    ("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("***", "***"), ("**", "**"), ("__", "__"), ("~~", "~~"),
    ("*", "*"), ("_", "_"), ("```", "```"), ("`", "`"), ('"', '"'), ("'", "'"), ("「", "」"), ("『", "』"),
)  # fmt: skip
_COMMAND: Final = re.compile(
    r"\\(?:boxed|fbox|text|textbf|textit|textrm|textsf|mathrm|mathbf|mathit|mathsf|bm|boldsymbol|mbox|emph|underline|displaystyle"
    r"|textnormal|mathnormal|ensuremath)\s*\{"
)
_TAIL: Final = re.compile(r"(?:[\s.;,:]|(?<=[A-Za-z\u4e00-\u9fff])!|\\[.,;!: ]|\\\\|\\q?quad)+$")
_HEAD: Final = re.compile(r"^(?:\s|\\[,;!: ]|\\displaystyle\b|\\q?quad\b|#+\s|>\s(?=\D*$)|[*•]\s+(?=\S))+")


def plain(text: str) -> str:
    """Return `text` without formatting around it."""
    text = _SPACED_DIGITS.sub("", text).translate(_CHARACTERS)
    text = _BOLD.sub(r"\1", text)
    for _ in range(_MOST_LAYERS):
        before = text
        text = _without_ends(text)
        text = _without_pair(text)
        text = _without_lead_in(text)
        if text == before:
            break
    return text


def _without_ends(text: str) -> str:
    text = _HEAD.sub("", text.strip())
    tail = _TAIL.search(text)
    if tail is None:
        return text
    kept = text[: tail.start()]
    return text if kept.endswith("\\") or not kept else kept


def _without_pair(text: str) -> str:
    for opening, closing in _PAIRS:
        if text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : len(text) - len(closing)]
            if inner.strip() and not inner.endswith("\\") and opening not in inner and closing not in inner:
                return inner
    command = _COMMAND.match(text)
    if command is not None and text.endswith("}") and closes_at_end(text, command.end() - 1):
        return text[command.end() : -1]
    if text.startswith("{") and text.endswith("}") and closes_at_end(text, 0):
        return text[1:-1]
    return text


def _without_lead_in(text: str) -> str:
    found = _LEAD_IN.match(text)
    return text[found.end() :] if found is not None and found.end() < len(text) else text


def closes_at_end(text: str, opening: int) -> bool:
    """Return whether the brace at `opening` is closed by the last character."""
    depth = 0
    for mark in re.finditer(r"\\.|[{}]", text[opening:]):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth == 0:
            return opening + mark.end() == len(text)
    return False
