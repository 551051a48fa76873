"""The helper that samples completions while its parent trains: reads requests from stdin, writes answers to stdout.

    python -m r1exp.rollout.ahead_process

Written for `r1exp.rollout.ahead`. Shapes: B rows of a batch, S tokens of the longest prompt, T tokens of the longest
completion, V entries of the vocabulary.
"""

import os
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue
from typing import IO, Any

import torch
from safetensors.torch import load
from transformers import GenerationConfig, PreTrainedModel

from r1exp.model.load import load_policy
from r1exp.model.settings import ModelSettings
from r1exp.rollout.frames import receive, send


def main() -> None:
    """Carry out requests until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    setup = receive(sys.stdin.buffer)
    if setup is None:
        return
    torch.set_num_threads(setup[0]["threads"])
    requests: SimpleQueue[tuple[dict[str, Any], bytes]] = SimpleQueue()
    threading.Thread(target=_collect, args=(sys.stdin.buffer, requests), daemon=True).start()
    settings = ModelSettings.model_validate_json(setup[0]["model"])
    sampler = Sampler(load_policy(setup[0]["path"], settings).eval(), settings, setup[0]["decoding"])
    while True:
        request, weights = requests.get()
        sampler.model.load_state_dict(load(weights))
        send(answers, {"index": request["index"], **sampler.sample(request["prompts"], request["seed"])})


def _collect(pipe: IO[bytes], requests: "SimpleQueue[tuple[dict[str, Any], bytes]]") -> None:
    while (request := receive(pipe)) is not None:
        requests.put(request)
    os._exit(0)  # the parent has ended, or needs nothing more


class Sampler:
    """Samples from a model and scores what it sampled."""

    def __init__(self, model: PreTrainedModel, settings: ModelSettings, decoding: dict[str, Any]) -> None:
        self.model = model
        self._decoding = decoding
        self._compute_dtype = (
            None if settings.compute_dtype == settings.dtype else getattr(torch, settings.compute_dtype)
        )
        self._config = GenerationConfig(
            do_sample=True,
            temperature=decoding["temperature"],
            top_p=decoding["top_p"],
            top_k=decoding["top_k"],
            max_new_tokens=decoding["max_tokens"],
            eos_token_id=decoding["end_ids"],
            pad_token_id=decoding["pad_id"],
            disable_compile=True,
        )

    @torch.inference_mode()
    def sample(self, prompts: list[list[int]], seed: int) -> dict[str, Any]:
        """Return `completions`, the tokens of each prompt's completion, and `logps`, their log-probabilities."""
        torch.manual_seed(seed)
        completions: list[list[int]] = []
        logps: list[list[float]] = []
        rows = self._decoding["rows"]
        for start in range(0, len(prompts), rows):
            with self._autocast():
                new, scores = self._batch(prompts[start : start + rows])
            completions += new
            logps += scores
        return {"completions": completions, "logps": logps}

    def _autocast(self) -> AbstractContextManager[Any]:
        return (
            nullcontext() if self._compute_dtype is None else torch.autocast("cpu", dtype=self._compute_dtype)
        )

    def _batch(self, prompts: list[list[int]]) -> tuple[list[list[int]], list[list[float]]]:
        width = max(map(len, prompts))
        ids_bs = torch.tensor([[self._decoding["pad_id"]] * (width - len(row)) + row for row in prompts])
        mask_bs = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
        whole_bst = self.model.generate(
            input_ids=ids_bs, attention_mask=mask_bs, generation_config=self._config
        )
        new_bt = whole_bst[:, width:]
        lengths = [self._length(row) for row in new_bt.tolist()]
        kept_bt = torch.arange(new_bt.size(1)) < torch.tensor(lengths).unsqueeze(1)
        whole_mask = torch.cat([mask_bs, kept_bt.long()], dim=1)
        positions = (whole_mask.cumsum(dim=1) - 1).clamp(min=0)
        logits_btv = self.model(
            input_ids=whole_bst, attention_mask=whole_mask, position_ids=positions, logits_to_keep=new_bt.size(1) + 1
        ).logits[:, :-1]  # fmt: skip
        logps_btv = torch.log_softmax(logits_btv.float() / self._decoding["temperature"], dim=-1)
        logps_bt = logps_btv.gather(-1, new_bt.unsqueeze(-1)).squeeze(-1)
        completions = [row[:length] for row, length in zip(new_bt.tolist(), lengths, strict=True)]
        scores = [row[:length] for row, length in zip(logps_bt.tolist(), lengths, strict=True)]
        return completions, scores

    def _length(self, tokens: list[int]) -> int:
        """Return the number of tokens up to and including the first end token."""
        ends = (place for place, token in enumerate(tokens, start=1) if token in self._decoding["end_ids"])
        return next(ends, len(tokens))


if __name__ == "__main__":
    main()
