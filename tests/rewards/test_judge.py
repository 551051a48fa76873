import threading
import time
import tracemalloc
from functools import partial
from typing import Any

import pytest

from r1exp.circuit_breaker import CircuitBreaker
from r1exp.errors import Refused
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context, Score
from r1exp.rewards.committee import Committee
from r1exp.rewards.judge import Judge
from r1exp.rewards.judge_client import BUSY, DOWN, LATE, UNCLEAR, VerdictCache


def judge(url: str, **settings: Any) -> Judge:
    return Judge(endpoint=url, model="m", **{"rubric": "helpful", "retries": 0, "timeout": 5.0, **settings})


def verdicts(reward: Judge, *texts: str) -> list:
    committee = Committee({"judge": reward})
    problems = [Problem("a", "How are you?") for _ in texts]
    return committee.score(problems, [Completion(text, 3) for text in texts], Context())["judge"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param('{"score": 10}', 1.0, id="best"),
        pytest.param('{"score": 1}', 0.0, id="worst"),
        pytest.param('I think so. {"score": "4"}', 3 / 9, id="with text around it"),
        pytest.param('{"score": 1} no: {"score": 10}', 1.0, id="the last score counts"),
        pytest.param('{"score": 11}', UNCLEAR, id="off the scale"),
        pytest.param("very good", UNCLEAR, id="no number"),
        pytest.param(500, DOWN, id="server error"),
        pytest.param(401, Abstain("judge refused: 401"), id="wrong key"),
    ],
)
def test_the_judges_points_become_a_score_and_failures_abstain(
    reply: str | int, expected: Score, endpoint: Any
) -> None:
    endpoint.reply = lambda question: reply
    assert verdicts(judge(endpoint.url), "Fine.") == [expected]


def test_an_endpoint_that_cannot_be_reached_abstains() -> None:
    assert verdicts(judge("http://127.0.0.1:9"), "Fine.") == [DOWN]


def test_failures_are_tried_again(endpoint: Any) -> None:
    endpoint.reply = lambda question: 503 if len(endpoint.requests) < 3 else '{"score": 10}'
    assert verdicts(judge(endpoint.url, retries=2), "Fine.") == [1.0]
    assert len(endpoint.requests) == 3


def test_a_refusal_is_not_tried_again(endpoint: Any) -> None:
    endpoint.reply = lambda question: 404
    verdicts(judge(endpoint.url, retries=2), "Fine.")
    assert len(endpoint.requests) == 1


def test_the_same_reply_is_judged_once(endpoint: Any) -> None:
    committee = Committee({"judge": judge(endpoint.url)})
    problems = [Problem("a", "?")] * 3
    for _ in range(2):
        committee.score(problems, [Completion(text, 1) for text in ("x", "y", "x")], Context())
    assert len(endpoint.requests) == 2


def test_an_abstention_because_the_judge_is_down_is_not_cached(endpoint: Any) -> None:
    committee = Committee({"judge": judge(endpoint.url)})
    rows = ([Problem("a", "?")], [Completion("x", 1)], Context())
    endpoint.reply = lambda question: 500
    assert committee.score(*rows)["judge"] == [DOWN]
    endpoint.reply = lambda question: '{"score": 10}'
    assert committee.score(*rows)["judge"] == [1.0]


def test_requests_run_concurrently(endpoint: Any) -> None:
    barrier = threading.Barrier(4, timeout=10)  # no request is answered before there are four

    def reply(question: str) -> str:
        barrier.wait()
        return '{"score": 10}'

    endpoint.reply = reply
    assert verdicts(judge(endpoint.url, concurrency=4), "a", "b", "c", "d") == [1.0] * 4
    assert endpoint.most_at_once == 4


def test_the_question_holds_rubric_prompt_and_reply_and_the_key_comes_from_the_environment(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    verdicts(judge(endpoint.url, instructions="the rhyme.", rubric=None, api_key_env="JUDGE_KEY"), "Roses")
    question = endpoint.requests[0]["messages"][0]["content"]
    assert all(part in question for part in ("Judge the rhyme.", "How are you?", "Roses"))
    assert endpoint.keys == ["Bearer secret"]


def test_a_long_reply_is_shortened_before_it_is_sent(endpoint: Any) -> None:
    verdicts(judge(endpoint.url, max_characters=100), "a" * 10**6)
    assert len(endpoint.requests[0]["messages"][0]["content"]) < 2000


def test_settings_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(Refused, match="export JUDGE_KEY="):
        judge("http://x", api_key_env="JUDGE_KEY").open()
    with pytest.raises(ValueError, match="one of the two"):
        judge("http://x", instructions="both")
    with pytest.raises(ValueError, match="lowest=9 must be below highest=9"):
        judge("http://x", lowest=9, highest=9)


def test_a_judge_that_never_answers_costs_one_timeout_and_then_nothing_until_it_answers_again(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    breaker = partial(CircuitBreaker, failures=4, seconds=0.2, probe_every=0.2)
    monkeypatch.setattr("r1exp.rewards.judge_client.CircuitBreaker", breaker)
    hangs = threading.Event()

    def reply(question: str) -> str:
        hangs.wait(5.0)
        return '{"score": 10}'

    endpoint.reply = reply
    reward = judge(endpoint.url, timeout=0.3, retries=3, concurrency=8)
    scorer = reward.open()

    def seconds_and_scores() -> tuple[float, set[Score]]:
        begun = time.monotonic()
        completions = [Completion(f"reply {number}", 3) for number in range(200)]
        scores = scorer.score([Problem("a", "?")] * 200, completions, Context())
        return time.monotonic() - begun, set(scores)

    seconds, scores = seconds_and_scores()
    assert scores == {DOWN}
    assert seconds < 2.0  # 200 / 8 * (4 * 0.3 + 3.5) = 117 s without the breaker
    assert len(endpoint.requests) <= 16
    assert "is down (no answer within 0.3 s" in capsys.readouterr().err
    assert seconds_and_scores() == (pytest.approx(0.0, abs=0.2), {DOWN})
    hangs.set()
    end = time.monotonic() + 5.0
    while seconds_and_scores()[1] != {1.0}:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert "answers again" in capsys.readouterr().err


def test_a_batch_ends_at_its_deadline_whatever_the_judge_does(endpoint: Any) -> None:
    endpoint.reply = lambda question: time.sleep(0.2) or '{"score": 10}'
    begun = time.monotonic()
    scores = verdicts(judge(endpoint.url, deadline=0.5, concurrency=2), *map(str, range(40)))
    assert time.monotonic() - begun < 1.5
    assert scores.count(1.0) in (4, 5, 6)
    assert set(scores[8:]) == {LATE}


def test_a_busy_judge_is_asked_again_until_the_deadline(endpoint: Any) -> None:
    endpoint.reply = lambda question: 429 if len(endpoint.requests) < 2 else '{"score": 10}'
    assert verdicts(judge(endpoint.url, retries=0), "Fine.") == [1.0]
    endpoint.reply = lambda question: 429
    assert verdicts(judge(endpoint.url, retries=0, deadline=0.2), "Fine.") == [BUSY]


def test_the_deadline_is_in_the_key_of_a_step_only_where_it_was_changed() -> None:
    assert "deadline" not in judge("http://x").model_dump(mode="json")
    assert judge("http://x", deadline=5.0).model_dump(mode="json")["deadline"] == 5.0


def test_the_cache_is_bounded_by_bytes_and_keeps_no_question() -> None:
    bound = 1 << 18
    questions = [f"{number}" + "x" * 20_000 for number in range(50)]
    tracemalloc.start()
    cache = VerdictCache(bound)
    for number in range(5_000):
        cache.add(f"{number}{questions[number % 50]}", number / 7)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 1.1 * bound + 50 * 20_100
    assert 1_000 < len(cache) < 5_000
    assert cache.get(f"4999{questions[4_999 % 50]}") == 4_999 / 7
    assert cache.get(f"0{questions[0]}") is None
