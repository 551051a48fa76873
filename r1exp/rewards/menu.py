"""Which rewards are there? One line a reward: to add one, write its file and add its class here."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from r1exp.rewards.function import Function
from r1exp.rewards.graded import Graded
from r1exp.rewards.strict import Strict
from r1exp.rewards.tags import Format, TagCount, XmlCount
from r1exp.rewards.vote_partial import VotePartial


def kind(value: Any) -> str | None:
    """Return which member of the menu a mapping asks for: its kind, or `function` for module:name."""
    chosen = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "function" if isinstance(chosen, str) and ":" in chosen else chosen


RewardSettings = Annotated[
    Annotated[Format, Tag("format")]
    | Annotated[Function, Tag("function")]
    | Annotated[Graded, Tag("graded")]
    | Annotated[Strict, Tag("strict")]
    | Annotated[TagCount, Tag("tag_count")]
    | Annotated[VotePartial, Tag("vote_partial")]
    | Annotated[XmlCount, Tag("xml_count")],
    Discriminator(kind),
]
