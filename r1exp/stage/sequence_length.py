"""Tells engines how long the sequences of a step can become, before they start. Torch-free.

    longest = bytes of the longest prompt, as the chat template writes it + tokens of the longest completion

A token has at least one byte, so that no prompt needs to be tokenized; `r1exp.stage.context_length` uses the same bound. Without
it vLLM asks for the model's own limit, often 128k tokens, and does not start where its cache has no room for one such
sequence.
"""

from collections.abc import Iterator
from itertools import chain

from r1exp.errors import Refused
from r1exp.model.preview import first_prompt
from r1exp.model.shapes import shape_of
from r1exp.prompt.chat import prompt_of
from r1exp.records import Message, Problem
from r1exp.stage.step import Step

_MARKERS = 512  # bytes of a chat template, where it is not on this machine
_MARGIN = 16  # tokens; a tokenizer may begin a text with some of its own


def with_longest(step: Step) -> Step:
    """Return a step whose engine has room for its longest prompt and completion, and no more."""
    rollout = step.config.rollout.with_longest(lambda: longest_sequence(step))
    if rollout == step.config.rollout:
        return step
    arguments = dict(step.trainer_args)
    if step.config.online is not None:
        arguments |= {
            name: value for name, value in rollout.trainer_arguments(arguments).items() if name in arguments
        }
    config = step.config.model_copy(update={"rollout": rollout})
    return step.model_copy(update={"config": config, "trainer_args": arguments})


def longest_sequence(step: Step) -> int | None:
    """Return an upper bound of the tokens of a prompt and its completion, at most the model's positions; None: unknown."""
    model = step.config.model.model_copy(update={"path": step.model_path})
    shape = shape_of(model)
    if shape is None:
        return None
    problems = _problems(step)
    first = next(problems, None)
    _, completion = step.config.longest_completion
    sizes = (_size(prompt_of(problem, step.config.prompt)) for problem in problems)
    prompt = 0
    if first is not None:
        turns = prompt_of(first, step.config.prompt)
        prompt = _markers(step, turns) + max(chain([_size(turns)], sizes))
    return min(prompt + completion + _MARGIN, shape.max_position_embeddings)


def _problems(step: Step) -> Iterator[Problem]:
    assert step.config.stage is not None
    return iter(step.config.dataset.stream(step.config.stage.split))


def _markers(step: Step, turns: list[Message]) -> int:
    """Return the bytes that the chat template adds to a prompt."""
    try:
        found = first_prompt(step.config.model.model_copy(update={"path": step.model_path}), turns)
    except Refused:  # the step itself says so
        return _MARKERS
    return max(len(found.text.encode()) - _size(turns), 0) if found.num_tokens is not None else _MARKERS


def _size(turns: list[Message]) -> int:
    return sum(len(turn["content"].encode()) for turn in turns)
