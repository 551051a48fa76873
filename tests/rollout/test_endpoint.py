"""The generators for an endpoint and for r1exp's own server, against a process with OpenAI's API."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from r1exp import http_client
from r1exp.errors import Refused, StepFailed
from r1exp.records import Completion, Message
from r1exp.rollout.base import Sampling
from r1exp.rollout.endpoint import EndpointGenerator, stream
from r1exp.rollout.hf import HfGenerator
from r1exp.rollout.kept import KeptRows
from r1exp.rollout.rate_limit import RateLimit
from r1exp.rollout.settings import Endpoint, HfRollout
from r1exp.serving.generator import ServerGenerator
from r1exp.serving.settings import VllmServer

SCRIPT = Path(__file__).parent / "openai_server.py"
GREEDY = Sampling(temperature=0.0, max_tokens=8)
SAMPLED = Sampling(temperature=0.7, top_p=0.9, top_k=5, max_tokens=8, seed=3)


def prompts(*texts: str) -> list[list[Message]]:
    return [[{"role": "user", "content": text}] for text in texts]


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, SCRIPT, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, f"http://127.0.0.1:{int(process.stdout.readline())}"


@pytest.fixture(scope="module")
def shared() -> Iterator[str]:
    process, url = start()
    yield url
    process.kill()
    process.wait()


@pytest.fixture
def server(shared: str) -> str:
    """The server's URL, without /v1. Its log has the requests of earlier tests too."""
    return shared


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "growing_pauses", lambda number: [0.0] * number)
    monkeypatch.setattr(http_client, "_LONGEST_PAUSE", 0.2)


def endpoint(url: str, **changes: Any) -> Endpoint:
    common: dict[str, Any] = {
        "kind": "endpoint", "url": f"{url}/v1", "model": "counter", "api_key_env": None, "timeout": 10.0, "concurrency": 4,
        "retries": 2, "extra_body": {},
    }  # fmt: skip
    return Endpoint.model_validate(common | changes)


def queue(url: str, *statuses: int) -> None:
    httpx.post(f"{url}/next", json=list(statuses))


def requests_of(url: str) -> list[dict[str, Any]]:
    return list(httpx.get(f"{url}/log").json())


def test_completions_are_in_the_order_of_the_prompts_and_have_their_lengths(server: str) -> None:
    counted: list[float] = []
    answers = EndpointGenerator(endpoint(server), counted.append).generate(
        prompts("three", "five", "one"), 2, GREEDY
    )
    assert sum(counted) == 6
    expected = [
        Completion("four five", num_tokens=3),
        Completion("", num_tokens=1),
        Completion("two three four five", num_tokens=5),
    ]
    assert answers == [[completion] * 2 for completion in expected]


@pytest.mark.parametrize("model", ["thinker", "reasoner"])
def test_reasoning_that_the_endpoint_returns_apart_stays_apart(server: str, model: str) -> None:
    ((answer,),) = EndpointGenerator(endpoint(server, model=model)).generate(prompts("four"), 1, GREEDY)
    assert (answer.text, answer.reasoning, answer.finished) == ("five", "one more each time", True)
    assert (answer.num_prompt_tokens, answer.num_tokens, answer.finish_reason) == (7, 2, "stop")


def test_variables_of_the_chat_template_are_sent_and_extra_fields_come_before_them(server: str) -> None:
    thinks = {"enable_thinking": True}
    EndpointGenerator(endpoint(server), template=thinks).generate(prompts("one"), 1, GREEDY)
    assert requests_of(server)[-1]["chat_template_kwargs"] == thinks
    own = {"chat_template_kwargs": {"thinking": False}, "reasoning_effort": "low"}
    EndpointGenerator(endpoint(server, extra_body=own), template=thinks).generate(prompts("one"), 1, GREEDY)
    assert own.items() <= requests_of(server)[-1].items()
    EndpointGenerator(endpoint(server)).generate(prompts("one"), 1, GREEDY)
    assert "chat_template_kwargs" not in requests_of(server)[-1]


def test_prompts_that_the_endpoint_refuses_stay_empty_as_often_as_allowed(
    server: str, tmp_path: Path
) -> None:
    asked = prompts("four", "five", "three")
    queue(server, 400)
    with pytest.raises(StepFailed, match=r"trouble 400.*raise rollout.max_refused"):
        EndpointGenerator(endpoint(server, concurrency=1)).generate(asked, 1, GREEDY)
    kept = tmp_path / "rows"
    queue(server, 200, 422)
    tolerant = endpoint(server, concurrency=1, max_refused=1)
    answers = EndpointGenerator(tolerant, kept=KeptRows(kept)).generate(asked, 1, GREEDY)
    assert [group[0].text for group in answers] == ["five", "", "four five"]
    assert (answers[1][0].finish_reason, answers[1][0].num_tokens) == ("refused", 0)
    queue(server, 401)  # a wrong key is no refusal of a prompt
    with pytest.raises(StepFailed, match="trouble 401"):
        EndpointGenerator(tolerant).generate(asked, 1, GREEDY)


def test_every_request_and_every_retry_waits_for_the_rate_limits(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(RateLimit, "admit", lambda self, prompt, longest: calls.append(f"{prompt} {longest}"))
    monkeypatch.setattr(RateLimit, "again", lambda self: calls.append("again"))
    monkeypatch.setattr(
        RateLimit, "ended", lambda self, request, before, tokens: calls.append(f"{before} {tokens}")
    )
    queue(server, 503)
    EndpointGenerator(endpoint(server, concurrency=1)).generate(prompts("four", "five"), 1, GREEDY)
    assert calls == ["four 8", "again", "7 2", "five 8", "7 1"]


def test_a_completion_cut_off_at_max_tokens_is_not_finished(server: str) -> None:
    short = Sampling(temperature=0.0, max_tokens=2)
    [[completion]] = EndpointGenerator(endpoint(server)).generate(prompts("one"), 1, short)
    assert completion == Completion("two three", num_tokens=2, finished=False)


def test_the_request_has_every_sampling_parameter(server: str) -> None:
    before = len(requests_of(server))
    generator = EndpointGenerator(endpoint(server, extra_body={"min_p": 0.1, "max_tokens": 4, "top_k": None}))
    generator.generate(prompts("one"), 2, SAMPLED)
    first, second = requests_of(server)[before:]
    seeds = {first.pop("seed"), second.pop("seed")}
    assert seeds == {stream(3, 0), stream(3, 1)}
    assert first == {
        "model": "counter", "messages": [{"role": "user", "content": "one"}], "temperature": 0.7, "top_p": 0.9,
        "max_tokens": 4, "min_p": 0.1,
    }  # fmt: skip


@pytest.mark.parametrize("status", [429, 500, 503, -1], ids=["busy", "broken", "down", "garbage"])
def test_a_failure_that_may_pass_is_tried_again(server: str, status: int) -> None:
    queue(server, status, status)
    [[completion]] = EndpointGenerator(endpoint(server)).generate(prompts("five"), 1, GREEDY)
    assert completion.num_tokens == 1


@pytest.mark.parametrize(
    ("statuses", "changes", "sentence"),
    [
        pytest.param([503] * 3, {}, "503 trouble 503; tried 3 times", id="always down"),
        pytest.param([400], {}, "400 trouble 400", id="a refused request"),
        pytest.param(
            [], {"model": "gpt"}, "`gpt` does not exist.; check rollout.model=gpt", id="wrong model"
        ),
        pytest.param([-2], {"timeout": 0.5}, "no answer within 0.5 s; raise rollout.timeout", id="timeout"),
    ],
)
def test_a_lasting_failure_says_what_to_change(
    server: str, statuses: list[int], changes: dict[str, Any], sentence: str
) -> None:
    queue(server, *statuses)
    with pytest.raises(StepFailed) as raised:
        EndpointGenerator(endpoint(server, **changes)).generate(prompts("one"), 1, GREEDY)
    assert sentence in str(raised.value)


def test_after_a_failure_only_what_is_missing_is_asked_for(server: str, tmp_path: Path) -> None:
    questions = prompts("three", "five", "one")
    expected = EndpointGenerator(endpoint(server)).generate(questions, 2, SAMPLED)

    def again() -> EndpointGenerator:
        return EndpointGenerator(endpoint(server, concurrency=1), kept=KeptRows(tmp_path / "rows.jsonl", {}))

    num_before = len(requests_of(server))
    queue(server, 200, 200, 400)
    with pytest.raises(StepFailed):
        again().generate(questions, 2, SAMPLED)
    assert again().generate(questions, 2, SAMPLED) == expected
    assert again().generate(questions, 2, SAMPLED) == expected
    seeds = [request["seed"] - stream(SAMPLED.seed, 0) for request in requests_of(server)[num_before:]]
    assert sorted(seeds) == [0, 1, 2, 2, 3, 4, 5]  # one was refused


def test_a_busy_endpoint_is_waited_for_until_the_deadline(server: str) -> None:
    queue(server, *[429] * 6)  # more than the two retries
    [[completion]] = EndpointGenerator(endpoint(server)).generate(prompts("five"), 1, GREEDY)
    assert completion.num_tokens == 1
    queue(server, *[429] * 20)
    with pytest.raises(StepFailed, match=r"raise rollout\.deadline=0\.1"):
        EndpointGenerator(endpoint(server, deadline=0.1)).generate(prompts("five"), 1, GREEDY)


def test_an_endpoint_that_cannot_be_reached_says_what_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(StepFailed, match=r"cannot be reached.*check that it runs"):
        EndpointGenerator(endpoint(f"http://127.0.0.1:{port}")).generate(prompts("one"), 1, GREEDY)


def test_the_key_comes_only_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    process, url = start("secret-of-this-test")
    settings = endpoint(url, api_key_env="ENDPOINT_KEY")
    try:
        monkeypatch.delenv("ENDPOINT_KEY", raising=False)
        with pytest.raises(Refused, match="export ENDPOINT_KEY="):
            EndpointGenerator(settings)
        monkeypatch.setenv("ENDPOINT_KEY", "wrong")
        with pytest.raises(StepFailed, match="401 wrong key; export the right key as ENDPOINT_KEY"):
            EndpointGenerator(settings).generate(prompts("one"), 1, GREEDY)
        monkeypatch.setenv("ENDPOINT_KEY", "secret-of-this-test")
        assert EndpointGenerator(settings).generate(prompts("five"), 1, GREEDY)
        assert "secret-of-this-test" not in settings.model_dump_json()
    finally:
        process.kill()
        process.wait()


def our_server(url: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, **more: Any) -> ServerGenerator:
    settings = VllmServer(
        kind="vllm_server", num_devices=1, tensor_parallel_size=1, gpu_memory_utilization=0.9, max_model_length=None,
        enforce_eager=False, cpu_kvcache_gib=1, host="127.0.0.1", port=None, start_timeout=5.0, restarts=0,
        importance_correction=None,
    )  # fmt: skip
    return ServerGenerator(
        url, "counter", tokenizer, model_path=str(tmp_path), revision=None, settings=settings, **more
    )


@pytest.mark.parametrize("max_tokens", [8, 2])
def test_our_server_and_transformers_give_the_same_greedy_completions(
    server: str,
    counting_model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    max_tokens: int,
) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
    questions = prompts("one two three", "five", "one")
    hf = HfGenerator(counting_model, tokenizer, HfRollout(kind="hf", batch_size=8))
    assert our_server(server, tokenizer, tmp_path).generate(questions, 2, sampling) == hf.generate(
        questions, 2, sampling
    )


def test_requests_to_our_server_ask_for_token_ids_and_state_every_parameter(
    server: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    before = len(requests_of(server))
    (group,) = our_server(server, tokenizer, tmp_path).generate(prompts("one two"), 3, SAMPLED)
    assert len(group) == 3
    (body,) = requests_of(server)[before:]
    assert body == {
        "model": "counter", "prompt": [2, 3], "n": 3, "seed": stream(3, 0), "temperature": 0.7, "top_p": 0.9, "top_k": 5,
        "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "max_tokens": 8,
        "stop_token_ids": [1], "return_token_ids": True,
    }  # fmt: skip


def test_after_a_failure_our_server_is_asked_for_what_is_missing(
    server: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    questions = prompts("three", "five", "one")
    expected = our_server(server, tokenizer, tmp_path).generate(questions, 2, SAMPLED)
    KeptRows(tmp_path / "rows.jsonl", {}).completions(questions, 2, SAMPLED).add(
        dict(enumerate(expected[1], start=2))
    )
    num_before = len(requests_of(server))
    again = our_server(server, tokenizer, tmp_path, kept=KeptRows(tmp_path / "rows.jsonl", {}))
    assert again.generate(questions, 2, SAMPLED) == expected
    sent = requests_of(server)[num_before:]
    assert sorted(request["seed"] - stream(SAMPLED.seed, 0) for request in sent) == [0, 4]


def test_seeds_of_prompts_samples_and_runs_are_all_different() -> None:
    seeds = [stream(seed, number) for seed in (0, 1, 2) for number in range(1000)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)  # a CPU generator uses no more bits


def test_a_server_that_is_lost_ends_the_attempts(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    lost = our_server("http://127.0.0.1:9", tokenizer, tmp_path, why_lost=lambda: "it was killed")
    with pytest.raises(StepFailed, match="it was killed"):
        lost.generate(prompts("one"), 1, GREEDY)


def test_no_prompts_give_no_completions(
    server: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    assert our_server(server, tokenizer, tmp_path).generate([], 3, GREEDY) == []


def test_an_endpoint_that_refuses_system_text_gets_it_before_the_question(server: str) -> None:
    asked = [
        [{"role": "system", "content": "Count."}, {"role": "user", "content": text}]
        for text in ("one two", "go")
    ]
    num_before = len(requests_of(server))
    generator = EndpointGenerator(endpoint(server, model="gemma", concurrency=1))
    completions = generator.generate(asked, 1, GREEDY)
    assert [group[0].text for group in completions] == ["three four five", "one two three four five"]
    sent = [request["messages"] for request in requests_of(server)[num_before:]]
    assert sent == [
        asked[0],
        [{"role": "user", "content": "Count.\n\none two"}],
        [{"role": "user", "content": "Count.\n\ngo"}],
    ]
