"""The members of a command line."""

from r1exp.plan.show import plan_text


def test_a_required_value_may_be_typed_or_swept() -> None:
    one = ["rewards=reward_model", "rewards.preference.model=owner/one"]
    assert "owner/one" in plan_text(one)
    text = plan_text([one[0], one[1] + ",owner/two"], is_multirun=True)
    assert "2 runs" in text.splitlines()[0]
