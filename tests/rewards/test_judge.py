import threading
from typing import Any

import pytest

from r1exp.errors import Refused
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context, Score
from r1exp.rewards.committee import Committee
from r1exp.rewards.judge import DOWN, UNCLEAR, Judge


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
