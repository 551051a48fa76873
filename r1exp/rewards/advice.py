"""Finds members of a committee that `r1exp plan` warns about or refuses."""

from collections.abc import Mapping

from r1exp.rewards.base import Reward


def constant_in_group_warnings(rewards: Mapping[str, Reward]) -> list[str]:
    """Return one sentence for each member that gives every completion of a group the same score.

    GRPO subtracts the mean of the group, so such a member adds nothing to any advantage. Members with
    weight 0 are left out.
    """
    return [
        f"rewards.{name} is the same for every completion of a group, so it adds nothing to GRPO's "
        f"advantage: {reason}"
        for name, reward in rewards.items()
        if reward.weight > 0.0 and (reason := reward.constant_because()) is not None
    ]


def members_that_need_logprobs(rewards: Mapping[str, Reward]) -> list[str]:
    """Return the members that abstain where the rollout provides no log-probabilities."""
    return [name for name, reward in rewards.items() if reward.needs_logprobs()]
