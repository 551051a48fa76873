"""Generates completions with a transformers model in this process.

Prompts of similar length are batched and padded on the left, so that all completions of a batch start in the same
column. Sampling uses its own seed and leaves the global random state unchanged.

Shapes: B completions of a batch, S tokens of the longest prompt, T tokens of the longest completion.
"""

import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from accelerate import PartialState
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from r1exp.model.load import load_policy, load_tokenizer
from r1exp.records import Completion, Message
from r1exp.rollout.base import GeneratorInputs, Sampling
from r1exp.rollout.kept import KeptRows
from r1exp.rollout.settings import HfRollout


class HfGenerator:
    """Generates completions with a causal language model and its tokenizer."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: HfRollout,
        advance: Callable[[float], None] = lambda amount: None,
        kept: KeptRows | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self._advance = advance
        self._kept = kept or KeptRows()
        self.without_gradients: Callable[[], AbstractContextManager[Any]] = torch.inference_mode
        self.end_ids = _end_ids(model, tokenizer)
        self.pad_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def generate(self, prompts: list[list[Message]], n: int, sampling: Sampling) -> list[list[Completion]]:
        """Return `n` completions of each prompt, in the order of the prompts.

        The same arguments, batch size and library versions give the same completions.
        """
        rows = [tokens for tokens in self._tokenized(prompts) for _ in range(n)]
        by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        kept = self._kept.completions(prompts, n, sampling)
        completions = dict(kept.done)
        if completions:
            self._advance(len(completions))
        with self._sampling_mode(sampling.seed, kept.state):
            for start in range(0, len(rows), self.settings.batch_size):
                batch = by_length[start : start + self.settings.batch_size]
                if all(row in completions for row in batch):
                    continue
                with self._counting(len(batch), sampling.max_tokens):
                    answers = self._complete([rows[row] for row in batch], sampling)
                new = dict(zip(batch, answers, strict=True))
                kept.add(new, None if sampling.temperature == 0.0 else self._random_state())
                completions |= new
        return [[completions[index * n + k] for k in range(n)] for index in range(len(prompts))]

    def _tokenized(self, prompts: list[list[Message]]) -> list[list[int]]:
        if not prompts:
            return []
        texts = self.tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False)
        # The chat template has already added the special tokens.
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    @contextmanager
    def _sampling_mode(self, seed: int, state: str | None = None) -> Iterator[None]:
        """Seed the generators, or continue from a state, and switch to evaluation mode; restore both at the end."""
        was_training = self.model.training
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        self.model.eval()
        try:
            with self.without_gradients(), torch.random.fork_rng(devices):
                torch.manual_seed(seed)
                if state is not None:
                    self._set_random_state(state)
                yield
        finally:
            self.model.train(was_training)

    def _random_state(self) -> str:
        """Return the state of the generator that draws the tokens, in base64."""
        device = self.model.device
        state = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
        return base64.b64encode(state.numpy().tobytes()).decode()

    def _set_random_state(self, text: str) -> None:
        state = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
        device = self.model.device
        if device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
        else:
            torch.set_rng_state(state)

    @contextmanager
    def _counting(self, num_rows: int, most_tokens: int) -> Iterator[None]:
        """Report each token of a batch as a part of its completions, and at the end what is left of them."""
        counted = 0.0

        def count(*_: Any) -> None:
            nonlocal counted
            part = min(num_rows / most_tokens, num_rows - counted)
            counted += part
            self._advance(part)

        hook = self.model.register_forward_pre_hook(count)
        try:
            yield
        finally:
            hook.remove()
        self._advance(num_rows - counted)

    def _complete(self, rows: list[list[int]], sampling: Sampling) -> list[Completion]:
        longest = max(map(len, rows))
        padded = [[self.pad_id] * (longest - len(row)) + row for row in rows]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        device = self.model.device
        ids_bst = self.model.generate(
            input_ids=torch.tensor(padded, device=device),
            attention_mask=torch.tensor(mask, device=device),
            generation_config=self._generation_config(sampling),
        )
        ids_bt = ids_bst[:, longest:].tolist()
        lengths = [_length(ids_t, self.end_ids) for ids_t in ids_bt]
        kept = [ids_t[:length] for ids_t, length in zip(ids_bt, lengths, strict=True)]
        texts = self.tokenizer.batch_decode(kept, skip_special_tokens=True)
        return [
            Completion(text, len(ids_t), finished=ids_t[-1] in self.end_ids, num_prompt_tokens=len(prompt))
            for text, ids_t, prompt in zip(texts, kept, rows, strict=True)
        ]

    def _generation_config(self, sampling: Sampling) -> GenerationConfig:
        # All fields are stated, because the model's generation config applies to the others (Qwen's has top_p=0.8).
        greedy = sampling.temperature == 0.0
        sampled: dict[str, Any] = {
            "temperature": 1.0 if greedy else sampling.temperature,
            "top_p": 1.0 if greedy else sampling.top_p,
            "top_k": 50 if greedy else sampling.top_k,  # 50 means "not set" in greedy search
            "min_p": None if greedy else 0.0,
            "typical_p": 1.0,
            "repetition_penalty": 1.0,
        }
        return GenerationConfig(
            do_sample=not greedy,
            max_new_tokens=sampling.max_tokens,
            eos_token_id=sorted(self.end_ids),
            pad_token_id=self.pad_id,
            disable_compile=True,
            **sampled,
        )


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return every token that ends a completion: the tokenizer's, and those of the model's generation config."""
    named = model.generation_config.eos_token_id
    from_model = set() if named is None else {named} if isinstance(named, int) else set(named)
    return from_model | {tokenizer.eos_token_id}


def _length(ids_t: list[int], end_ids: set[int]) -> int:
    """Return the number of tokens up to and including the first end token."""
    return next((t for t, token in enumerate(ids_t, start=1) if token in end_ids), len(ids_t))


def generator(settings: HfRollout, inputs: GeneratorInputs) -> HfGenerator:
    """Return a generator with the step's model, loaded on this rank's device."""
    policy = load_policy(inputs.model_path, inputs.model)
    if inputs.model.quantization is None:  # a quantized model is on its device, and refuses to be moved
        policy = policy.to(PartialState().device)
    tokenizer = load_tokenizer(inputs.model_path, inputs.model)
    return HfGenerator(policy, tokenizer, settings, inputs.advance, inputs.kept)
