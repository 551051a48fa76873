"""Toys of the room: a problem, completions, and texts in a style."""

from collections.abc import Callable

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
