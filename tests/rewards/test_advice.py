import pytest

from r1exp.rewards.advice import constant_in_group_warnings, members_that_need_logprobs
from r1exp.rewards.base import Reward
from r1exp.rewards.strict import Strict
from r1exp.rewards.tags import XmlCount
from r1exp.rewards.vote_partial import VotePartial


@pytest.mark.parametrize(
    ("reward", "part"),
    [
        pytest.param(VotePartial(style="plain", scope="group_shared"), "use scope=group", id="a shared vote"),
        pytest.param(XmlCount(style="plain"), "no tags to count", id="tags in a style without tags"),
    ],
)
def test_a_member_that_is_constant_in_a_group_is_named(reward: Reward, part: str) -> None:
    (warning,) = constant_in_group_warnings({"mine": reward, "right": Strict(style="plain")})
    assert "rewards.mine" in warning
    assert part in warning
    assert constant_in_group_warnings({"mine": reward.model_copy(update={"weight": 0.0})}) == []


def test_members_whose_scores_differ_in_a_group_are_not_named() -> None:
    rewards = {"vote": VotePartial(style="plain", scope="group"), "tags": XmlCount(style="think_answer")}
    assert constant_in_group_warnings(rewards) == []


def test_members_that_need_log_probabilities_are_named() -> None:
    sure = VotePartial(style="plain", scope="group", confidence=True)
    assert members_that_need_logprobs({"sure": sure, "right": Strict(style="plain")}) == ["sure"]
