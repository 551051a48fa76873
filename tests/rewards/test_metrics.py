import pytest

from r1exp.errors import StoppedByHealth
from r1exp.rewards.base import NOT_APPLICABLE, TIMEOUT, Abstain, Score
from r1exp.rewards.metrics import (
    AbstentionBound,
    AbstentionWatch,
    Metrics,
    abstentions,
    equal_below_best_share,
    signal_share,
    variance_shares,
)

PAIRS = [(0, 1), (2, 3)]


def test_shares_of_the_within_group_variance_add_up_to_one() -> None:
    """Deviations: of a, -1 1 0 0; of b with weight 0.5, 0 0 -1 1; of the total, -1 1 -1 1."""
    columns = {"a": [0.0, 2.0, 5.0, 5.0], "b": [7.0, 7.0, 0.0, 4.0], "logged": [0.0, 9.0, 0.0, 9.0]}
    shares = variance_shares(columns, {"a": 1.0, "b": 0.5, "logged": 0.0}, PAIRS)
    assert shares == {"a": 0.5, "b": 0.5, "logged": 0.0}


def test_a_member_that_is_constant_inside_every_group_has_no_share() -> None:
    shares = variance_shares(
        {"flat": [3.0, 3.0, 1.0, 1.0], "a": [0.0, 1.0, 0.0, 0.0]}, {"flat": 1.0, "a": 1.0}, PAIRS
    )
    assert shares == {"flat": 0.0, "a": 1.0}


def test_a_member_that_counteracts_the_total_has_a_negative_share() -> None:
    shares = variance_shares({"up": [0.0, 3.0], "down": [1.0, 0.0]}, {"up": 1.0, "down": 1.0}, [(0, 1)])
    assert shares == {"up": pytest.approx(1.5), "down": pytest.approx(-0.5)}


def test_without_any_variance_there_are_no_shares() -> None:
    assert variance_shares({"a": [1.0, 1.0]}, {"a": 1.0}, [(0, 1)]) == {}


def test_rows_that_a_member_does_not_apply_to_are_not_counted_as_abstentions() -> None:
    reasons, num_applied = abstentions([1.0, TIMEOUT, NOT_APPLICABLE, NOT_APPLICABLE, TIMEOUT])
    assert (dict(reasons), num_applied) == ({"timeout": 2}, 3)


def test_a_run_with_too_many_abstentions_is_stopped_with_their_reasons() -> None:
    watch = AbstentionWatch(AbstentionBound(share=0.5, num_batches=2))
    broken: dict[str, list[Score]] = {"code": [TIMEOUT, Abstain("sandbox down"), TIMEOUT, 1.0]}
    watch.add_batch(broken)
    with pytest.raises(StoppedByHealth, match=r"'code' could not score 6 of 8 .*timeout 4x, sandbox down 2x"):
        watch.add_batch(broken)


def test_a_run_that_is_stopped_says_what_is_wrong_with_the_code() -> None:
    watch = AbstentionWatch(AbstentionBound(share=0.5, num_batches=1))
    with pytest.raises(
        StoppedByHealth, match=r"error: KeyError 2x; last: KeyError: 'b' \(mine\.py, line 3\)"
    ):
        failed = [Abstain("error: KeyError", f"KeyError: '{key}' (mine.py, line 3)") for key in "ab"]
        watch.add_batch({"mine": failed})


def test_the_bound_itself_is_allowed() -> None:
    AbstentionWatch(AbstentionBound(share=0.5, num_batches=1)).add_batch({"code": [TIMEOUT, 1.0]})


def test_rows_that_do_not_apply_never_stop_a_run() -> None:
    watch = AbstentionWatch(AbstentionBound(share=0.1, num_batches=1))
    watch.add_batch({"chat": [NOT_APPLICABLE, NOT_APPLICABLE], "math": [1.0, NOT_APPLICABLE]})


def test_groups_whose_totals_differ_by_rounding_alone_carry_no_signal() -> None:
    columns = {"a": [2.0, 2.0, 0.0, 2.0], "b": [0.1 + 0.2, 0.3, 0.8, 0.8]}
    assert signal_share(columns, {"a": 1.0, "b": 1.0}, PAIRS) == 0.5
    assert signal_share({"a": [None, None]}, {"a": 1.0}, [(0, 1)]) == 0.0


def test_groups_with_the_best_total_are_not_counted_among_the_equally_bad() -> None:
    columns = {"a": [2.0, 2.0, 0.0, 0.0, 0.0, 2.0]}
    groups = [(0, 1), (2, 3), (4, 5)]
    assert equal_below_best_share(columns, {"a": 1.0}, groups, best=2.0) == pytest.approx(1 / 3)


def test_the_score_without_influence_is_a_share_of_the_span() -> None:
    metrics = Metrics(judges={"strict": (0.0, 2.0)})
    assert metrics._judged({"strict": [2.0, 0.0, None, 2.0]}) == pytest.approx(2 / 3)
    assert metrics._judged({"strict": [None]}) is None
