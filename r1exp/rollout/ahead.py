"""Samples completions in a helper process while this one trains (`rollout.staleness`).

The helper holds a copy of the policy. A request carries the weights of the moment at which it is made, and a seed, so that
its answer does not depend on when it is carried out: the same weights, prompts and seed give the same completions. The answer
holds the log-probability of each token under those weights, for the importance ratio.

The helper ends with its parent, whose pipe it reads.
"""

import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from typing import Any

import torch
from safetensors.torch import save

from r1exp.errors import StepFailed
from r1exp.model.settings import ModelSettings
from r1exp.rollout.frames import receive, send

_END_TIMEOUT = 10.0  # seconds for the helper to end


@dataclass(frozen=True)
class Sampled:
    """The completions of one generation batch of a rank."""

    prompts: list[list[int]]  # tokens
    completions: list[list[int]]  # tokens, the end token included
    logps: list[list[float]]  # of each token, under the weights that sampled it


@dataclass(frozen=True)
class Decoding:
    """How the helper samples."""

    temperature: float
    top_p: float
    top_k: int  # 0: off
    max_tokens: int  # of a completion
    end_ids: list[int]
    pad_id: int
    rows: int  # completions generated at once


class Ahead:
    """Samples generation batches in another process, in the order of the requests.

    Args:
        path: Folder or hub id of the start model.
        model: Its settings.
        decoding: How to sample.
    """

    def __init__(self, path: str, model: ModelSettings, decoding: Decoding) -> None:
        self._setup = {
            "path": path,
            "model": model.model_dump_json(),
            "decoding": asdict(decoding),
            "threads": torch.get_num_threads(),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._prompts: dict[int, list[list[int]]] = {}  # of requests without an answer yet
        self._known: dict[int, Sampled] = {}

    def request(
        self, index: int, prompts: list[list[int]], seed: int, weights: dict[str, torch.Tensor]
    ) -> None:
        """Have a generation batch sampled with these weights; returns at once."""
        process = self._running()
        assert process.stdin is not None
        body = save({name: weight.detach().cpu().clone() for name, weight in weights.items()})
        self._prompts[index] = prompts
        try:
            send(process.stdin, {"index": index, "prompts": prompts, "seed": seed}, body)
        except BrokenPipeError:
            raise self._ended() from None

    def result(self, index: int) -> Sampled:
        """Return a batch that was requested, once; waits for it.

        Raises:
            StepFailed: the helper has ended.
        """
        while index not in self._known:
            self._receive()
        return self._known.pop(index)

    def state(self) -> list[list[Any]]:
        """Return every batch that was requested and not taken, for a checkpoint; waits for them."""
        while self._prompts:
            self._receive()
        return [
            [index, one.prompts, one.completions, one.logps] for index, one in sorted(self._known.items())
        ]

    def restore(self, state: list[list[Any]]) -> None:
        """Restore what `state` returned."""
        self._known = {index: Sampled(*parts) for index, *parts in state}

    def close(self) -> None:
        """End the helper."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        with suppress(OSError):  # it has ended, and what was written last is lost
            process.stdin.close()
        try:
            process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "r1exp.rollout.ahead_process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )  # fmt: skip
            assert self._process.stdin is not None
            send(self._process.stdin, self._setup)
            threading.Thread(target=self._collect, args=(self._process.stdout,), daemon=True).start()
        return self._process

    def _collect(self, pipe: Any) -> None:
        while (answer := receive(pipe)) is not None:
            self._answers.put(answer[0])
        self._answers.put(None)

    def _receive(self) -> None:
        answer = self._answers.get()
        if answer is None:
            raise self._ended()
        index = answer["index"]
        self._known[index] = Sampled(self._prompts.pop(index), answer["completions"], answer["logps"])

    def _ended(self) -> StepFailed:
        code: int | None = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(_END_TIMEOUT)
        return StepFailed(
            f"the process that samples ahead (rollout.staleness) has ended (exit code {code}); the log of the step says why. "
            "Type the same command again to continue from the last checkpoint, or use rollout.staleness=0"
        )
