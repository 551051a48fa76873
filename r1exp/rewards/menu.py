"""Which rewards are there? One line a reward: to add one, write its file and add its class here."""

from typing import Annotated

from pydantic import Field

from r1exp.rewards.graded import Graded
from r1exp.rewards.strict import Strict
from r1exp.rewards.tags import Format, TagCount, XmlCount
from r1exp.rewards.vote_partial import VotePartial

BuiltIn = Annotated[
    Format
    | Graded
    | Strict
    | TagCount
    | VotePartial
    | XmlCount,
    Field(discriminator="kind"),
]  # fmt: skip

RewardSettings = BuiltIn
