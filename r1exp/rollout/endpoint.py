"""Generates completions with any OpenAI-compatible endpoint, through the chat API.

The endpoint renders the prompt with its own template. Where that refuses a system message (an answer of status 400 that
mentions it), the request is sent again with the system text before the question, and so are all later ones. Every completion is one request: its number of
tokens is the endpoint's count, and it has a seed of its own. Not for training, because the weights of
the endpoint are not those of the policy.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from r1exp import http_client
from r1exp.errors import StepFailed
from r1exp.http_client import RequestFailed
from r1exp.prompt.chat import without_system_role
from r1exp.records import Completion, Message
from r1exp.rollout.base import GeneratorInputs, Sampling
from r1exp.rollout.kept import KeptRows
from r1exp.rollout.rate_limit import RateLimit
from r1exp.rollout.settings import Endpoint, api_key

_PATH = "/chat/completions"
_REFUSES_PROMPT = (400, 413, 422)  # statuses
_GOLDEN = 0x9E3779B1  # 2**32 divided by the golden ratio: its multiples are far apart modulo 2**32


class EndpointGenerator:
    """Generates completions with the model of an endpoint.

    Args:
        settings: The rollout.
        advance: Receives how many completions are new.
        kept: What an interrupted execution of the step has generated.
        template: Variables of the endpoint's chat template, as enable_thinking; sent only if there are any.

    Raises:
        Refused: the environment variable of the key is not set.
    """

    def __init__(
        self,
        settings: Endpoint,
        advance: Callable[[float], None] = lambda amount: None,
        kept: KeptRows | None = None,
        template: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = settings
        self._template = dict(template or {})
        self._num_refused = 0
        self._lock = threading.Lock()
        self._limit = RateLimit(settings.requests_per_minute, settings.tokens_per_minute)
        self._kept = kept or KeptRows()
        self._refuses_system = False  # the endpoint's template
        self._advance = advance
        key_advice = (
            f"export the right key as {settings.api_key_env}"
            if settings.api_key_env
            else "name the environment variable that holds its key: rollout.api_key_env=NAME"
        )
        self._client = http_client.OpenAiClient(
            settings.url,
            key=api_key(settings),
            timeout=settings.timeout,
            concurrency=settings.concurrency,
            pauses=lambda: http_client.growing_pauses(settings.retries),
            before_retry=lambda: self._limit.again(),
            explain={
                "key": key_advice,
                "missing": f"check rollout.model={settings.model}, and that rollout.url={settings.url} is right up to /v1",
                "slow": "raise rollout.timeout, or lower rollout.concurrency",
                "busy": f"lower rollout.concurrency, or raise rollout.deadline={settings.deadline:g} (seconds for one "
                "completion); the same command goes on where this one ended",
                "late": "lower rollout.concurrency, or raise rollout.deadline",
                "down": f"tried {settings.retries + 1} times; check that it runs, lower rollout.concurrency, or raise "
                "rollout.retries",
            },
        )

    def generate(self, prompts: list[list[Message]], n: int, sampling: Sampling) -> list[list[Completion]]:
        """Return `n` completions of each prompt, in the order of the prompts.

        Raises:
            StepFailed: the endpoint does not answer, or its answer lacks what is needed.
        """
        kept = self._kept.completions(prompts, n, sampling)
        self._num_refused = sum(each.finish_reason == "refused" for each in kept.done.values())
        if kept.done:
            self._advance(len(kept.done))
        missing = [number for number in range(len(prompts) * n) if number not in kept.done]

        def request(number: int) -> Completion:
            seed = stream(sampling.seed, number)
            completion = self._request(self._body(prompts[number // n], sampling, seed), sampling.max_tokens)
            kept.add({number: completion})
            self._advance(1.0)
            return completion

        done = kept.done | dict(zip(missing, self._client.map(request, missing), strict=True))
        return [[done[row * n + k] for k in range(n)] for row in range(len(prompts))]

    def _body(self, prompt: list[Message], sampling: Sampling, seed: int) -> dict[str, Any]:
        body = {
            "model": self._settings.model,
            "messages": prompt,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k or None,  # not part of OpenAI's API: sent only if it is set
            "max_tokens": sampling.max_tokens,
            "seed": seed,
            "chat_template_kwargs": self._template or None,  # vLLM's and SGLang's field
            **self._settings.extra_body,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _post(self, body: dict[str, Any]) -> Any:
        """Return the endpoint's answer, without a system message if its template refuses one.

        The deadline begins when the rate limits admit the request.
        """
        until = time.monotonic() + self._settings.deadline
        moved = {**body, "messages": without_system_role(body["messages"])}
        if self._refuses_system or moved["messages"] == body["messages"]:
            return self._client.post(_PATH, moved, until=until)
        try:
            return self._client.post(_PATH, body, until=until)
        except RequestFailed as failed:
            if failed.status != 400 or "system" not in failed.found.lower():
                raise
            answer = self._client.post(_PATH, moved, until=until)
            self._refuses_system = True
            return answer

    def _request(self, body: dict[str, Any], longest: int) -> Completion:
        text = "".join(message["content"] for message in body["messages"])
        admitted = self._limit.admit(text, longest)
        try:
            completion = self._completion(self._post(body))
        except RequestFailed as failed:
            completion = self._refused(failed)
        self._limit.ended(admitted, completion.num_prompt_tokens, completion.num_tokens)
        return completion

    def _refused(self, failed: RequestFailed) -> Completion:
        """Return an empty completion where the endpoint refuses a prompt, as often as `max_refused` allows.

        Raises:
            RequestFailed: the failure has another reason, or there are too many.
        """
        if failed.status not in _REFUSES_PROMPT:
            raise failed
        with self._lock:
            self._num_refused += 1
            if self._num_refused > self._settings.max_refused:
                found, most = self._num_refused, self._settings.max_refused
                raise RequestFailed(
                    f"{failed}; that is refusal {found}, and rollout.max_refused={most} allows {most}: shorten or leave out such "
                    "prompts, or raise rollout.max_refused",
                    failed.cause, failed.url, failed.found, failed.status,
                ) from failed  # fmt: skip
        return Completion("", 0, finished=False, num_prompt_tokens=0, finish_reason="refused")

    def _completion(self, answer: Any) -> Completion:
        choice = answer["choices"][0]
        usage = answer.get("usage") or {}
        num_tokens, num_prompt_tokens = usage.get("completion_tokens"), usage.get("prompt_tokens")
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(num_tokens, int) or not isinstance(message, dict):
            raise StepFailed(
                f"{self._client.url}{_PATH}: the answer has no message or no usage.completion_tokens, the length "
                "of the completion; use an endpoint that reports both"
            )
        # vLLM, SGLang and DeepSeek name it reasoning_content, newer vLLM and OpenRouter reasoning.
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        finish_reason = choice.get("finish_reason")
        return Completion(
            text=message.get("content") or "",
            num_tokens=num_tokens,
            finished=finish_reason == "stop",
            reasoning=reasoning if isinstance(reasoning, str) else None,
            num_prompt_tokens=num_prompt_tokens if isinstance(num_prompt_tokens, int) else None,
            finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        )


def stream(seed: int, number: int) -> int:
    """Return the seed of one completion.

    No two completions of a step have the same seed, and the seeds of runs with other seeds are far away.
    A seed has 32 bits, because the CPU generator of torch 2.13 uses no more.

    Args:
        seed: Of the run.
        number: Of the completion in the step.
    """
    return (seed * _GOLDEN + number) % 2**32


def generator(settings: Endpoint, inputs: GeneratorInputs) -> EndpointGenerator:
    """Return a generator that sends requests to the endpoint; the step's own model is not loaded."""
    return EndpointGenerator(settings, inputs.advance, inputs.kept, inputs.model.chat_template_kwargs)
