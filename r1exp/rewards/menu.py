"""Which rewards are there? One line a reward: to add one, write its file and add its class here."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from r1exp.rewards.accuracy import Accuracy
from r1exp.rewards.cf_code import CfCode
from r1exp.rewards.code import BinaryCode, Code, CodeFormat
from r1exp.rewards.function import Function
from r1exp.rewards.graded import Graded
from r1exp.rewards.ioi_code import IoiCode
from r1exp.rewards.judge import Judge
from r1exp.rewards.language_consistency import LanguageConsistency
from r1exp.rewards.lengths import Cosine, Length, SoftOverlong
from r1exp.rewards.majority_vote import MajorityVote
from r1exp.rewards.reasoning_steps import ReasoningSteps
from r1exp.rewards.repetition_penalty import RepetitionPenalty
from r1exp.rewards.reward_model import RewardModel
from r1exp.rewards.strict import Strict
from r1exp.rewards.tags import Format, TagCount, XmlCount
from r1exp.rewards.vote_partial import VotePartial


def kind(value: Any) -> str | None:
    """Return which member of the menu a mapping asks for: its kind, or `function` for module:name."""
    chosen = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "function" if isinstance(chosen, str) and ":" in chosen else chosen


RewardSettings = Annotated[
    Annotated[Accuracy, Tag("accuracy")]
    | Annotated[BinaryCode, Tag("binary_code")]
    | Annotated[CfCode, Tag("cf_code")]
    | Annotated[Code, Tag("code")]
    | Annotated[CodeFormat, Tag("code_format")]
    | Annotated[Cosine, Tag("cosine")]
    | Annotated[Format, Tag("format")]
    | Annotated[Function, Tag("function")]
    | Annotated[Graded, Tag("graded")]
    | Annotated[IoiCode, Tag("ioi_code")]
    | Annotated[Judge, Tag("judge")]
    | Annotated[LanguageConsistency, Tag("language_consistency")]
    | Annotated[Length, Tag("length")]
    | Annotated[MajorityVote, Tag("majority_vote")]
    | Annotated[ReasoningSteps, Tag("reasoning_steps")]
    | Annotated[RepetitionPenalty, Tag("repetition_penalty")]
    | Annotated[RewardModel, Tag("reward_model")]
    | Annotated[SoftOverlong, Tag("soft_overlong")]
    | Annotated[Strict, Tag("strict")]
    | Annotated[TagCount, Tag("tag_count")]
    | Annotated[VotePartial, Tag("vote_partial")]
    | Annotated[XmlCount, Tag("xml_count")],
    Discriminator(kind),
]
