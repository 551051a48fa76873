"""Generates completions with the vLLM server that r1exp started for a step.

The prompt is rendered and tokenized here, with the policy's own template and tokenizer, and the server returns token
ids: `rollout=hf` and the server see the same tokens and decode the same text. Every request states all sampling
parameters, so that no default of the server applies.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from r1exp.errors import StepFailed
from r1exp.files import read_json
from r1exp.http_client import OpenAiClient, pauses_within
from r1exp.model.load import load_tokenizer
from r1exp.paths import StepPaths
from r1exp.records import Completion, Message
from r1exp.rollout.base import GeneratorInputs, Sampling
from r1exp.rollout.endpoint import stream
from r1exp.rollout.kept import KeptRows
from r1exp.serving.command import served_name
from r1exp.serving.settings import VllmServer

_CONCURRENCY = 64  # requests at once; the server batches them
_TIMEOUT = 3600.0  # seconds for one request, including the time it waits for others


class ServerGenerator:
    """Sends prompts to a server that holds the policy's weights.

    Args:
        url: Base URL, without /v1.
        model: The name under which the server serves the model.
        tokenizer: Tokenizer of the policy, with a chat template.
        model_path: Folder or hub id of the weights; its generation config may name further end tokens.
        revision: Revision of a hub id; None: its main branch.
        settings: The rollout.
        why_lost: Returns why the server has ended for good; None while it may still answer.
        advance: Receives how many completions are new.
        kept: What an interrupted execution of the step has generated.
    """

    def __init__(
        self,
        url: str,
        model: str,
        tokenizer: PreTrainedTokenizerBase,
        model_path: str,
        revision: str | None,
        settings: VllmServer,
        why_lost: Callable[[], str | None] = lambda: None,
        advance: Callable[[float], None] = lambda amount: None,
        kept: KeptRows | None = None,
    ) -> None:
        self._advance = advance
        self._kept = kept or KeptRows()
        self._model = model
        self._tokenizer = tokenizer
        self._end_ids = _end_ids(tokenizer, model_path, revision)
        self._connection = OpenAiClient(
            f"{url.rstrip('/')}/v1",
            key=None,
            timeout=_TIMEOUT,
            concurrency=_CONCURRENCY,
            pauses=lambda: pauses_within(settings.start_timeout),  # a restart may take that long
            explain=dict.fromkeys(("key", "missing", "slow", "down"), "see server.log in the step's folder"),
            why_lost=why_lost,
        )

    def generate(self, prompts: list[list[Message]], n: int, sampling: Sampling) -> list[list[Completion]]:
        """Return `n` completions of each prompt, in the order of the prompts.

        Raises:
            StepFailed: the server has ended and is not restarted, or it refuses a request (a prompt too long).
        """
        if not prompts:
            return []
        texts = self._tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False)
        rows: list[list[int]] = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        is_greedy = sampling.temperature == 0.0
        num_drawn = 1 if is_greedy else n  # vLLM refuses n > 1 with greedy decoding
        kept = self._kept.completions(prompts, n, sampling)
        if kept.done:
            self._advance(len(kept.done))
        missing = [row for row in range(len(rows)) if any(row * n + k not in kept.done for k in range(n))]

        def request(row: int) -> dict[int, Completion]:
            seed = stream(sampling.seed, row * n)
            group = self._request(self._body(rows[row], num_drawn, sampling, seed))
            numbered = dict(enumerate(group * n if is_greedy else group, start=row * n))
            kept.add(numbered)
            self._advance(n)
            return numbered

        done = dict(kept.done)
        for numbered in self._connection.map(request, missing):
            done |= numbered
        return [[done[row * n + k] for k in range(n)] for row in range(len(rows))]

    def _body(self, ids: list[int], n: int, sampling: Sampling, seed: int) -> dict[str, Any]:
        return {
            "model": self._model,
            "prompt": ids,
            "n": n,  # the k-th completion draws with seed + k
            "seed": seed,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "max_tokens": sampling.max_tokens,
            "stop_token_ids": self._end_ids,
            "return_token_ids": True,
        }

    def _request(self, body: dict[str, Any]) -> list[Completion]:
        choices = sorted(
            self._connection.post("/completions", body)["choices"], key=lambda each: each["index"]
        )
        ids = [choice["token_ids"] for choice in choices]
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [
            Completion(
                text,
                num_tokens=len(tokens),
                finished=choice["finish_reason"] == "stop",
                num_prompt_tokens=len(body["prompt"]),
            )
            for text, tokens, choice in zip(texts, ids, choices, strict=True)
        ]


def _end_ids(tokenizer: PreTrainedTokenizerBase, model_path: str, revision: str | None) -> list[int]:
    """Return every token that ends a completion: the tokenizer's, and those of the model's generation config."""
    ends = {tokenizer.eos_token_id}
    try:
        named = GenerationConfig.from_pretrained(model_path, revision=revision).eos_token_id
    except OSError:  # the model has no generation config
        named = None
    return sorted(ends | (set() if named is None else {named} if isinstance(named, int) else set(named)))


def generator(settings: VllmServer, inputs: GeneratorInputs) -> ServerGenerator:
    """Return the generator of a step whose server is running.

    Raises:
        StepFailed: the step was started without its server.
    """
    if inputs.server is None:
        raise StepFailed(
            f"{StepPaths(inputs.folder).step} names no server, and rollout=vllm_server has one only if `r1exp` starts it; "
            "start the step with r1exp, or use rollout=vllm_colocate"
        )
    return ServerGenerator(
        inputs.server,
        served_name(inputs.key),
        load_tokenizer(inputs.model_path, inputs.model),
        model_path=inputs.model_path,
        revision=inputs.model.revision,
        settings=settings,
        why_lost=_why_lost(inputs.folder),
        advance=inputs.advance,
        kept=inputs.kept,
    )


@contextmanager
def in_training(settings: VllmServer, inputs: GeneratorInputs, trainer: Any) -> Iterator[ServerGenerator]:
    """Return a context with a generator of the step's server, after the trainer has sent it the newest weights.

    Every request has its own seed, so that the server's random numbers stay those of the training.

    Args:
        settings: The rollout of the step.
        inputs: What a generator needs from the step.
        trainer: GRPO's or RLOO's trainer of TRL 1.16 with a server.
    """
    trainer.vllm_generation.sync_weights()
    trainer._last_loaded_step = (
        trainer.state.global_step
    )  # not a second time where the training generates next
    yield generator(settings, inputs)


def _why_lost(folder: Path) -> Callable[[], str | None]:
    """Return a function that returns why the step's server has ended for good; None while it may still answer."""

    def reason() -> str | None:
        path = StepPaths(folder).server_state
        state = read_json(path) if path.exists() else {}
        has_ended = state.get("state") in ("failed", "ended")
        return (state.get("reason") or "it was ended") if has_ended else None

    return reason
