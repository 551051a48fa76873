"""When a service counts as down, with a clock of the test's own."""

from r1exp.circuit_breaker import CircuitBreaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures=3, seconds=10.0, probe_every=5.0, clock=clock)


def test_it_opens_after_enough_failures_and_enough_time_without_a_success() -> None:
    clock = Clock()
    made = breaker(clock)
    for moment in (0.0, 1.0, 2.0, 9.9):  # a server that is restarted refuses connections many times
        clock.now = moment
        assert not made.failed(moment, "no")
    clock.now = 10.0
    assert made.failed(9.9, "no answer")
    assert made.is_open
    assert made.reason == "no answer; 5 attempts in 10 s failed"
    assert not made.failed(10.0, "no")  # it is open already


def test_one_slow_request_says_nothing_about_the_others() -> None:
    clock = Clock()
    made = breaker(clock)
    clock.now = 60.0
    made.failed(0.0, "slow")
    made.failed(0.0, "slow")
    assert not made.is_open
    made.failed(0.0, "slow")
    assert made.is_open


def test_a_success_starts_the_count_again() -> None:
    clock = Clock()
    made = breaker(clock)
    made.failed(0.0, "no")
    clock.now = 9.0
    made.succeeded()
    clock.now = 11.0
    for _ in range(5):
        made.failed(0.0, "no")  # they began before the success: they count from there
    assert not made.is_open
    clock.now = 19.0
    made.failed(18.0, "no")
    assert made.is_open


def test_while_it_is_open_one_probe_is_made_now_and_then_and_a_success_closes_it() -> None:
    clock = Clock()
    made = breaker(clock)
    assert not made.takes_probe()
    clock.now = 20.0
    for _ in range(3):
        made.failed(0.0, "no")
    assert not made.takes_probe()
    clock.now = 25.0
    assert [made.takes_probe() for _ in range(3)] == [True, False, False]
    made.succeeded()
    assert not made.is_open
