"""The limits of requests and tokens per minute, with a clock that the test moves."""

import pytest

from r1exp.rollout.rate_limit import RateLimit


class Clock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0.0
        self.now += seconds


def limit(clock: Clock, requests: int | None = None, tokens: int | None = None) -> RateLimit:
    return RateLimit(requests, tokens, clock, clock.sleep)


def test_no_minute_has_more_requests_than_allowed() -> None:
    clock = Clock()
    limited = limit(clock, requests=10)
    starts = []
    for _ in range(35):
        limited.admit("", 100)
        starts.append(clock.now)
        clock.now += 1.0
    assert all(sum(start <= other < start + 60.0 for other in starts) <= 10 for start in starts)
    assert starts[-1] < 4 * 60.0  # and no longer than needed


def test_a_retry_counts_as_a_request() -> None:
    clock = Clock()
    limited = limit(clock, requests=2)
    limited.admit("", 100)
    limited.again()
    limited.admit("", 100)
    assert clock.now == pytest.approx(60.0)


def test_an_answer_has_the_longest_length_until_one_is_known() -> None:
    clock = Clock()
    limited = limit(clock, tokens=1000)
    first = limited.admit("x" * 400, 500)  # 100 tokens of the prompt
    limited.ended(first, 120, 80)
    for _ in range(4):  # 200 + 4 * (100 + 80): the mean counts now
        limited.admit("x" * 400, 500)
    assert clock.now == 0.0
    limited.admit("x" * 400, 500)
    assert clock.now == pytest.approx(60.0)


def test_no_minute_has_more_tokens_than_allowed() -> None:
    clock = Clock()
    limited = limit(clock, tokens=1000)
    used = []
    for _ in range(20):
        request = limited.admit("x" * 400, 300)
        used.append(clock.now)
        limited.ended(request, 100, 300)
    assert all(400 * sum(start <= other < start + 60.0 for other in used) <= 1000 for start in used)


def test_a_request_beyond_the_whole_limit_waits_until_it_is_alone() -> None:
    clock = Clock()
    limited = limit(clock, tokens=100)
    limited.ended(limited.admit("", 10), 0, 10)
    limited.ended(limited.admit("x" * 4000, 10), 1000, 10)
    assert clock.now == pytest.approx(60.0)


def test_without_limits_nothing_is_counted() -> None:
    clock = Clock()
    assert limit(clock).admit("x", 10**9) is None
    limit(clock).ended(None, 1, 1)
    limit(clock).again()
    assert clock.now == 0.0
