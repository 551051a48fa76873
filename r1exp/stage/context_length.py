"""Refuses prompts that are longer than the model's context, together with their completion."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from transformers import AutoConfig, PreTrainedTokenizerBase

from r1exp.errors import Refused
from r1exp.model.load import load_tokenizer
from r1exp.model.shapes import positions_of
from r1exp.prompt.chat import prompt_of
from r1exp.prompt.settings import PromptSettings
from r1exp.records import Message, Problem
from r1exp.stage.step import Step


def refuse_beyond_context(
    problems: Sequence[Problem],
    step: Step,
    prompt: PromptSettings | None = None,
    longest: tuple[str, int] | None = None,
) -> None:
    """Raise Refused if a prompt leaves no room for a completion: beyond its last position a model generates noise.

    Nothing is checked if the model's config states no number of positions, or if an endpoint serves it.

    Args:
        problems: The problems for which completions will be generated.
        step: The step that generates.
        prompt: How problems are presented; None: as the step says.
        longest: The setting that limits completions and its value in tokens; None: as the step says.
    """
    deque(within_context(problems, step, prompt, longest), maxlen=0)


def prompt_counter(step: Step) -> Callable[[list[Message]], int] | None:
    """Return a function that returns the tokens of a prompt; None if an endpoint has the tokenizer."""
    if step.config.rollout.is_remote:
        return None
    tokenizer = load_tokenizer(step.model_path, step.config.model)
    return lambda prompt: _num_tokens(prompt, tokenizer)


def within_context(
    problems: Iterable[Problem],
    step: Step,
    prompt_settings: PromptSettings | None = None,
    longest: tuple[str, int] | None = None,
) -> Iterator[Problem]:
    """Yield the problems; raise as `refuse_beyond_context` at the first whose prompt leaves no room."""
    prompt_settings = prompt_settings or step.config.prompt
    if step.config.rollout.is_remote:
        yield from problems
        return
    iterator = iter(problems)
    first = next(iterator, None)
    if first is None:
        return
    # Loaded before the config, because it raises a helpful error for a broken folder.
    tokenizer = load_tokenizer(step.model_path, step.config.model)
    model = step.config.model
    config = AutoConfig.from_pretrained(
        step.model_path, revision=model.revision, trust_remote_code=model.trust_remote_code
    )
    num_positions = positions_of(config.get_text_config().to_dict())
    limit, what = step.config.rollout.length_limit(num_positions)
    if limit is None:
        yield from chain([first], iterator)
        return
    turns = prompt_of(first, prompt_settings)
    # A token has at least one byte, so that a prompt with few enough bytes fits without being tokenized.
    overhead = len(_text(turns, tokenizer).encode()) - _size(turns)
    setting, num_tokens = longest or step.config.longest_completion
    room = limit - num_tokens
    for problem in chain([first], iterator):
        prompt = prompt_of(problem, prompt_settings)
        if len(prompt) != len(turns) or overhead + _size(prompt) > room:
            length = _num_tokens(prompt, tokenizer)
            if length > room:
                raise Refused(
                    f"problem {problem.id}: its prompt has {length} tokens; with {setting}={num_tokens} that is more than "
                    f"{what}; lower {setting}, or leave such problems out"
                )
        yield problem


def _num_tokens(prompt: list[Message], tokenizer: PreTrainedTokenizerBase) -> int:
    return len(tokenizer(_text(prompt, tokenizer), add_special_tokens=False)["input_ids"])


def _size(prompt: list[Message]) -> int:
    return sum(len(message["content"].encode()) for message in prompt)


def _text(prompt: list[Message], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True))
