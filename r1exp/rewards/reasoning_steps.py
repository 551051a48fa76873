"""Scores the number of different step markers in the reasoning.

    score = min(1, number of different step markers / target)

A marker is `Step 3:`, a numbered or bulleted line, or an ordinal word at the beginning of a clause
(`First,` `Next,` `Finally,`), and the same in Chinese (第一步, 步骤 2, 首先, 其次, 最后). A marker that
occurs twice counts once, so that repeating one word does not raise the score. Source: [open-r1], and
the open-r1 reward of the same name, which counts repetitions, and English markers only.
"""

import re
from typing import Final, Literal

from pydantic import PositiveInt

from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, Reward, Score, Span

_ENGLISH: Final = (
    r"\bstep[ \t]{1,3}\d{1,3}\b"
    r"|\b(?:first|second|third|fourth|firstly|secondly|thirdly|next|then|afterwards|finally|lastly),"
)
_CHINESE: Final = (
    r"第[一二三四五六七八九十百\d]{1,4}步|步骤\s?[一二三四五六七八九十\d]{1,3}"
    r"|首先|其次|再次|接着|接下来|随后|然后|最后"
)
_LISTED: Final = r"^[ \t]{0,8}(?:\d{1,3}[.)、]|[-*•])[ \t]{0,4}[^\s].{0,200}"
_MARKER: Final = re.compile(f"{_ENGLISH}|{_CHINESE}|{_LISTED}", re.IGNORECASE | re.MULTILINE)


class ReasoningSteps(Reward):
    """The share of a target number of different step markers, at most 1."""

    kind: Literal["reasoning_steps"] = "reasoning_steps"
    style: StyleName  # decides where the reasoning is read; if that place is absent, the whole text is
    target: PositiveInt = 3  # different markers for the full score

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del problem, context
        reasoning = style_named(self.style).read_reasoning(completion.text)
        text = completion.text if reasoning is None else reasoning
        markers = {" ".join(match[0].lower().split()) for match in _MARKER.finditer(text)}
        return min(1.0, len(markers) / self.target)
