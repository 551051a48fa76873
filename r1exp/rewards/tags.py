"""Does the completion wear the prompt style's tags? Three answers, from strict to lenient.

    format     1 if the whole text follows the template, else 0     (seeds 000, 002)
    tag_count  1/n for each of the n tags that occurs exactly once  (seed 000; 0.25 each for four)
    xml_count  0.2 for each tag that occurs, at most 0.8            (seed 003)

A style without tags (`boxed`, `plain`) gives the two counters nothing to count: they abstain.
"""

from typing import Literal

from pydantic import PositiveFloat

from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NOT_APPLICABLE, Context, Reward, Score, Span


class Format(Reward):
    """The strict template or nothing."""

    kind: Literal["format"] = "format"
    style: StyleName  # whose template

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del problem, context
        return 1.0 if style_named(self.style).follows(completion.text) else 0.0


def _nothing_to_count(style: StyleName) -> str | None:
    if style_named(style).tags:
        return None
    return f"style={style} has no tags to count; choose a style with tags, such as prompt=think_answer"


class TagCount(Reward):
    """Partial credit for a template half learned; a tag written twice earns nothing."""

    kind: Literal["tag_count"] = "tag_count"
    style: StyleName  # whose tags

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def constant_because(self) -> str | None:
        return _nothing_to_count(self.style)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del problem, context
        tags = style_named(self.style).tags
        if not tags:
            return NOT_APPLICABLE
        return sum(completion.text.count(tag) == 1 for tag in tags) / len(tags)


class XmlCount(Reward):
    """Seed 003's second reward: points for every tag that is seen at all."""

    kind: Literal["xml_count"] = "xml_count"
    style: StyleName  # whose tags
    points: PositiveFloat = 0.2  # a tag
    most: PositiveFloat = 0.8  # points altogether

    @property
    def span(self) -> Span:
        return (0.0, min(self.most, self.points * len(style_named(self.style).tags)))

    def constant_because(self) -> str | None:
        return _nothing_to_count(self.style)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del problem, context
        tags = style_named(self.style).tags
        if not tags:
            return NOT_APPLICABLE
        return min(self.points * sum(tag in completion.text for tag in tags), self.most)
