"""The members of a command line."""

from r1exp.plan.members import plan_members


def test_a_required_value_may_be_typed_or_swept() -> None:
    one = ["rewards=reward_model", "rewards.preference.model=owner/one"]
    assert "owner/one" in plan_members(one, False, [])
    text = plan_members([one[0], one[1] + ",owner/two"], True, [])
    assert text.startswith("2 runs")
