"""References to the artifacts of earlier steps."""

from r1exp.plan.references import resolved


def test_references_are_replaced_in_nested_values() -> None:
    values = {
        "rewards": {"a": {"model": "artifact:rm"}},
        "list": ["artifact:pairs/data.jsonl", 3],
        "other": "rm",
    }
    assert resolved(values, lambda name: f"/run/{name}") == {
        "rewards": {"a": {"model": "/run/rm"}},
        "list": ["/run/pairs/data.jsonl", 3],
        "other": "rm",
    }
