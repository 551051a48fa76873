"""Toys of the room: a problem, completions, and texts in a style."""

from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.records import Completion, Problem

MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]


@pytest.fixture
def problem() -> MakeProblem:
    def make(answer: str | None = "42", prompt: str = "What is 6 x 7?", **columns: object) -> Problem:
        return Problem(id=f"toy-{prompt}", prompt=prompt, answer=answer, columns=columns)

    return make


@pytest.fixture
def completion() -> MakeCompletion:
    def make(text: str = "", num_tokens: int = 10, logprobs: tuple[float, ...] | None = None) -> Completion:
        return Completion(text=text, num_tokens=num_tokens, logprobs=logprobs)

    return make


@pytest.fixture
def answered(completion: MakeCompletion) -> Callable[..., Completion]:
    """A completion in the think_answer style."""

    def make(answer: str, logprobs: tuple[float, ...] | None = None) -> Completion:
        return completion(f"<think>so</think>\n<answer>{answer}</answer>", logprobs=logprobs)

    return make


FOREIGN = """
import asyncio, os, time

def says(completions, **kwargs):
    return [float(c[0]["content"].split()[-1]) for c in completions]

def misbehaves(completions, completion_ids, answer, **kwargs):
    text = completions[0][0]["content"]
    if text == "hang":
        while True: pass
    if text == "die":
        os._exit(7)
    if text == "raise":
        raise KeyError(text)
    if text == "none":
        return [None] * len(completions)
    if text == "short":
        return []
    if text == "grandchild":
        import subprocess
        subprocess.Popen(["sleep", "4711"])
        while True: pass
    if text == "pid":
        return [float(os.getpid())] * len(completions)
    if text == "ids":
        return [float(sum(ids)) for ids in completion_ids]
    if text == "print":
        print("not an answer")
    return [float(value) for value in answer]

def at_step(completions, trainer_state, bonus=0.0, **kwargs):
    return [trainer_state.global_step + bonus] * len(completions)

async def later(completions, **kwargs):
    await asyncio.sleep(0.01)
    return [1.0] * len(completions)

def make_constant(value):
    return lambda completions, **kwargs: [value] * len(completions)
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with somebody's reward functions; its name."""
    name = f"foreign_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(tmp_path)
    return name
