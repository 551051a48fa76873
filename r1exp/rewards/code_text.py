"""Reads the program of a completion and the test cases of a problem.

A program is a fenced block as in CommonMark: three or more ticks or tildes, a label and perhaps attributes
(```python title="x"), and at the end at least as many of the same characters. It counts only in the answer's place: the last block
inside the answer's tags, or, in a style without tags, a block at the end of the whole text (or in a box
at its end). Blocks in the reasoning are ignored.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.sandbox.base import Case, Language

_FENCE: Final = re.compile(r"(`{3,}|~{3,})([^\n]*)")
LABELS: Final[dict[Language, tuple[str, ...]]] = {  # the first label is the one that `written` uses
    "python": ("python", "python3", "py"),
    "cpp": ("cpp", "c++", "cc", "cxx"),
    "javascript": ("javascript", "js", "node", "nodejs", "node.js", "cjs"),
}
LONGEST_SOURCE: Final = 65_536  # characters; the limit of Codeforces


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    label: str  # the first word after the opening fence, in lower case
    source: str
    ends_text: bool  # only white space follows

    def is_in(self, language: Language) -> bool:
        """Return whether it is labeled as `language`."""
        return self.label in LABELS[language]


def blocks(text: str) -> Iterator[Block]:
    """Yield every closed block of `text`, in order. Takes time linear in the length of the text."""
    lines = text.rstrip().split("\n")
    opened: tuple[int, str, str] | None = None  # line of the opening fence, the fence, the label
    for number, line in enumerate(lines):
        found = _FENCE.fullmatch(line.strip())
        if found is None:
            continue
        marks, rest = found[1], found[2].strip()
        if opened is None:
            if marks[0] == "~" or "`" not in rest:  # else it is code within a line
                opened = number, marks, _label(rest)
        elif not rest and marks.startswith(opened[1]):
            yield Block(opened[2], "\n".join(lines[opened[0] + 1 : number]), number == len(lines) - 1)
            opened = None


def _label(after_the_fence: str) -> str:
    """Return the language that is named there: `python title="x"`, `python {1,3}`, `{.python}`, `python:main.py`."""
    word = re.match(r"\{?\s*\.?([^\s{}:,]*)", after_the_fence)
    assert word is not None
    return word[1].lower()


def place_of_code(style: StyleName, text: str) -> str | None:
    """Return the part of `text` where the program must be; None if that place is absent."""
    shape, text = style_named(style), text.rstrip()
    answer = shape.read_answer(text) if shape.tags or text.endswith("}") else None
    if shape.tags:
        return answer
    ends_with_box = style == "boxed" and answer is not None and text[:-1].rstrip().endswith(answer)
    return answer if ends_with_box else text


def read_program(style: StyleName, language: Language, text: str) -> str | None:
    """Return the program of a completion, or None. A block without a label counts as `language`."""
    place = place_of_code(style, text)
    found = [block for block in blocks(place or "") if block.is_in(language) or not block.label]
    if not found or not (style_named(style).tags or found[-1].ends_text):
        return None
    source = found[-1].source
    return source if source.strip() and len(source) <= LONGEST_SOURCE else None


def written(language: Language, source: str) -> str:
    """Return `source` as a fenced block."""
    source = source.strip("\n")
    if _FENCE.match(source):
        return source
    longest = max((len(ticks) for ticks in re.findall(r"^\s*(`{3,})", source, re.MULTILINE)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{LABELS[language][0]}\n{source}\n{fence}"


def language_named(name: Any, default: Language) -> Language:
    """Return the language that a data set's column names (python3, c++17, ...); None gives `default`.

    Raises:
        ValueError: the name is not known.
    """
    if name is None:
        return default
    without_version = str(name).lower().rstrip("0123456789. ")
    for language, labels in LABELS.items():
        if without_version in labels or str(name).lower() in labels:
            return language
    raise ValueError(f"the language {name!r} is none of {sorted(LABELS)}")


def read_cases(value: Any) -> list[Case]:
    """Return the test cases of a column; [] where there are none.

    Accepts a list of {"input": text, "output": text} or of [input, output], an object with such a list
    as `test_cases` (open-r1's verification_info), and either of them as JSON text.

    Raises:
        ValueError: the column has another form.
    """
    if isinstance(value, str):
        value = json.loads(value)  # its JSONDecodeError is a ValueError
    if isinstance(value, Mapping):
        value = value.get("test_cases")
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"test cases must be a list, not {type(value).__name__}")
    return [_case(item) for item in value]


def _case(item: Any) -> Case:
    kind = item.get("type") if isinstance(item, Mapping) else None
    if kind not in (None, "stdin_stdout"):
        raise ValueError(f"test cases of type {kind!r} cannot be run, only stdin_stdout")
    pair = (item.get("input"), item.get("output")) if isinstance(item, Mapping) else tuple(item)
    if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
        raise ValueError("a test case must have the texts input and output")
    "".join(
        pair
    ).encode()  # a lone surrogate cannot be written to a file: its UnicodeEncodeError is a ValueError
    return Case(*pair)
