"""Three rewards for the tags of the prompt style, from strict to lenient.

    format     1 if the whole text follows the template, else 0     ([open-r1], [gemma-grpo])
    tag_count  1/n for each of the n tags that occurs exactly once  ([open-r1]; 0.25 each for four)
    xml_count  0.2 for each tag that occurs, at most 0.8            ([sft-grpo])

`tag_count` and `xml_count` abstain for a style without tags (`boxed`, `plain`).
"""

from typing import Literal

from pydantic import PositiveFloat

from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NOT_APPLICABLE, Context, Reward, Score, Span


class Format(Reward):
    """1 if the whole completion follows the style's template, else 0."""

    kind: Literal["format"] = "format"
    style: StyleName  # the style whose template is checked

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del problem, context
        return 1.0 if style_named(self.style).follows(completion.text) else 0.0


def _reason_without_tags(style: StyleName) -> str | None:
    if style_named(style).tags:
        return None
    return f"style={style} has no tags to count; choose a style with tags, such as prompt=think_answer"


class TagCount(Reward):
    """The share of the tags that occur exactly once."""

    kind: Literal["tag_count"] = "tag_count"
    style: StyleName  # the style whose tags are counted

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def constant_because(self) -> str | None:
        return _reason_without_tags(self.style)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del problem, context
        tags = style_named(self.style).tags
        if not tags:
            return NOT_APPLICABLE
        return sum(completion.text.count(tag) == 1 for tag in tags) / len(tags)


class XmlCount(Reward):
    """The second reward of [sft-grpo]: points for every tag that occurs at least once."""

    kind: Literal["xml_count"] = "xml_count"
    style: StyleName  # the style whose tags are counted
    points: PositiveFloat = 0.2  # for each tag
    most: PositiveFloat = 0.8  # points for all tags together

    @property
    def span(self) -> Span:
        return (0.0, min(self.most, self.points * len(style_named(self.style).tags)))

    def constant_because(self) -> str | None:
        return _reason_without_tags(self.style)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del problem, context
        tags = style_named(self.style).tags
        if not tags:
            return NOT_APPLICABLE
        return min(self.points * sum(tag in completion.text for tag in tags), self.most)
