"""The rewards that `rewards.NAME.kind` can name. To add one, write its file and add its line."""

from typing import Annotated

from r1exp.registry import Registry, load
from r1exp.rewards.base import Reward
from r1exp.rewards.class_statement import has_class_statement, refuse_misspelt_name
from r1exp.rewards.function import Function


class RewardRegistry(Registry[Reward]):
    """The reward classes by their `kind`; `package.module:name` may also name a reward function."""

    def find(self, kind: str) -> type[Reward]:
        """Return the class that `kind` names; `Function` where it names anything but a reward class.

        Only the module of a class is imported here: functions are imported in worker processes.

        Raises:
            ValueError: there is no such kind, or the module of the class cannot be imported.
        """
        if ":" not in kind:
            return super().find(kind)
        if not has_class_statement(kind):
            refuse_misspelt_name(kind)
            return Function
        found = load(kind)
        return (
            self.checked(found, kind) if isinstance(found, type) and issubclass(found, Reward) else Function
        )


REWARDS = RewardRegistry(
    "rewards",
    Reward,
    {
        "accuracy": "r1exp.rewards.accuracy:Accuracy",
        "binary_code": "r1exp.rewards.code:BinaryCode",
        "cf_code": "r1exp.rewards.cf_code:CfCode",
        "choice": "r1exp.rewards.choice:Choice",
        "code": "r1exp.rewards.code:Code",
        "code_format": "r1exp.rewards.code:CodeFormat",
        "cosine": "r1exp.rewards.lengths:Cosine",
        "countdown": "r1exp.rewards.countdown:CountdownReward",
        "format": "r1exp.rewards.tags:Format",
        "function_call": "r1exp.rewards.function_call:FunctionCall",
        "graded": "r1exp.rewards.graded:Graded",
        "group_judge": "r1exp.rewards.group_judge:GroupJudge",
        "instructions": "r1exp.rewards.instructions:Instructions",
        "ioi_code": "r1exp.rewards.ioi_code:IoiCode",
        "json_schema": "r1exp.rewards.json_schema:JsonSchema",
        "judge": "r1exp.rewards.judge:Judge",
        "kimi_length": "r1exp.rewards.lengths:KimiLength",
        "language_consistency": "r1exp.rewards.language_consistency:LanguageConsistency",
        "length": "r1exp.rewards.lengths:Length",
        "majority_vote": "r1exp.rewards.majority_vote:MajorityVote",
        "match": "r1exp.rewards.match:Match",
        "reasoning_gym": "r1exp.rewards.reasoning_gym:ReasoningGym",
        "reasoning_steps": "r1exp.rewards.reasoning_steps:ReasoningSteps",
        "repetition_penalty": "r1exp.rewards.repetition_penalty:RepetitionPenalty",
        "reward_model": "r1exp.rewards.reward_model:RewardModel",
        "rubric": "r1exp.rewards.rubric:Rubric",
        "soft_overlong": "r1exp.rewards.lengths:SoftOverlong",
        "soft_overlong_punishment": "r1exp.rewards.lengths:SoftOverlongPunishment",
        "strict": "r1exp.rewards.strict:Strict",
        "tag_count": "r1exp.rewards.tags:TagCount",
        "target_length": "r1exp.rewards.target_length:TargetLength",
        "vote_partial": "r1exp.rewards.vote_partial:VotePartial",
        "xml_count": "r1exp.rewards.tags:XmlCount",
    },
)
RewardSettings = Annotated[Reward, REWARDS]


def reward_class(kind: str) -> type[Reward]:
    """Return the class of a kind: `Function` for the path of a reward function. Raises ValueError."""
    return REWARDS.find(kind)
