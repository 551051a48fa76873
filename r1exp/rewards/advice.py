"""What should a person know about a committee before it is paid? For `r1exp plan`."""

from collections.abc import Mapping

from r1exp.rewards.base import Reward


def constant_in_group_warnings(rewards: Mapping[str, Reward]) -> list[str]:
    """Return one sentence for each paid member that is the same for every completion of a group.

    GRPO subtracts the mean of the group, so that such a member adds nothing to any advantage.
    """
    return [
        f"rewards.{name} is the same for every completion of a group, so it adds nothing to GRPO's "
        f"advantage: {reason}"
        for name, reward in rewards.items()
        if reward.weight > 0.0 and (reason := reward.constant_because()) is not None
    ]


def members_that_need_logprobs(rewards: Mapping[str, Reward]) -> list[str]:
    """Return the members that cannot score where the rollout gives no log-probabilities."""
    return [name for name, reward in rewards.items() if reward.needs_logprobs()]
