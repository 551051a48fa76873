"""Finds members of a committee that `r1exp plan` warns about or refuses."""

from collections.abc import Mapping

from r1exp.rewards.base import JudgedReward, Reward


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


def evaluating_member(rewards: Mapping[str, Reward] | None) -> str | None:
    """Return the member that judges held-out answers too: of those with the largest weight the first; None: there is none."""
    names = [name for name, reward in (rewards or {}).items() if reward.judges_correctness]
    if rewards is None or not names:
        return None
    first = max(names, key=lambda name: rewards[name].weight)
    return first if rewards[first].evaluates() else None


def check_members(rewards: Mapping[str, Reward]) -> None:
    """Raise ValueError for an empty committee and for a `judged_by` that names no suitable member."""
    if not rewards:
        raise ValueError("the committee has no member; choose one, for example rewards=graded")
    judges = [name for name, reward in rewards.items() if reward.judges_correctness]
    for name, reward in rewards.items():
        if isinstance(reward, JudgedReward) and reward.judged_by not in judges:
            raise ValueError(
                f"rewards.{name}.judged_by={reward.judged_by} must name a member that judges correctness, "
                f"here one of {judges or 'none'}; to add one that is only logged, give it weight 0: "
                "'+rewards.right={kind: strict, style: ${prompt.style}, weight: 0}'"
            )
