"""Renders one prompt as a step will, and counts its tokens, before anything is loaded. Torch-free and quick.

It reads the tokenizer's files directly, because `AutoTokenizer` imports torch. tests/model/test_chat_template.py
compares it with `apply_chat_template`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from r1exp.errors import Refused
from r1exp.files import hash_of, hash_of_file, read_object
from r1exp.model.adapters import base_of, is_adapter_folder
from r1exp.model.chat_template import ChatTemplate, adapted, render
from r1exp.model.locate import locate
from r1exp.model.settings import ModelSettings
from r1exp.model.tiny import check_tiny
from r1exp.model.tokenizer import CHAT_TEMPLATE as TINY_TEMPLATE
from r1exp.model.tokenizer import END, PAD
from r1exp.model.turns import ChatTokenizer
from r1exp.prompt.chat import CHAT_TEMPLATE
from r1exp.records import Message

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FILES = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "tokenizer.json")


@dataclass(frozen=True, slots=True)
class PromptPreview:
    """One prompt as the model receives it."""

    text: str  # with the markers of the chat template
    num_tokens: int | None  # None: the tokenizer is not on this machine, or has no tokenizer.json
    note: str  # what was done to the chat template, or why the prompt is not known; "" if there is nothing to say


def first_prompt(model: ModelSettings, messages: list[Message]) -> PromptPreview:
    """Return the prompt that a step with this model makes of `messages`.

    Args:
        model: The policy. A model of the hub is looked up in the cache only.
        messages: The prompt in conversational form (`r1exp.prompt.chat.messages`).

    Raises:
        Refused: there is no such model, or its chat template cannot be used for these messages.
    """
    place = locate(model)
    files = _tiny_files(model) if place is None else _files_of(place, model)
    if files is None:
        plain = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
        return PromptPreview(plain, None, f"the tokenizer of {model.path} is not on this machine yet")
    path = model.path or "tiny"
    template = files.chat_template(model, path)
    try:
        text = render(template.text, messages, files.special_tokens)
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused(
            f"model.path={path}: its chat template refuses the first prompt ({reason}); the turns are "
            f"{', '.join(message['role'] for message in messages)}"
        ) from error
    return PromptPreview(text, files.count(text), "; ".join(template.notes))


def chat_tokenizer(model: ModelSettings) -> ChatTokenizer | None:
    """Return the chat template and the tokenizer that a step will use; None if the tokenizer is not on this machine."""
    place = locate(model)
    files = _tiny_files(model) if place is None else _files_of(place, model)
    if files is None or files.encode("") is None:
        return None
    template = files.chat_template(model, model.path or "tiny").text

    def write(messages: list[Message], opens_answer: bool) -> str:
        return render(template, messages, files.special_tokens, add_generation_prompt=opens_answer)

    return ChatTokenizer(write, lambda text: files.encode(text) or [])


def token_counter(model: ModelSettings, *, is_prompt: bool = False) -> Callable[[list[Message]], int] | None:
    """Return a function that counts the tokens of a whole conversation; None if the tokenizer is not on this machine.

    Args:
        model: The policy.
        is_prompt: Count a prompt instead, with the marker of the answer that follows it.
    """
    tokenizer = chat_tokenizer(model)
    return None if tokenizer is None else partial(tokenizer.count, opens_answer=is_prompt)


def tokenizer_identity(model: ModelSettings) -> str:
    """Return what changes with the model's tokenizer and chat template: a hash of local files, the hub id and its revision,
    or the words of a tiny model."""
    place, revision = locate(model), model.revision
    if place is None:
        return "tiny" if model.words == "arithmetic" else f"tiny-{model.words}"
    if isinstance(place, Path) and is_adapter_folder(place) and not (place / _FILES[0]).is_file():
        place, revision = base_of(place)
    if isinstance(place, str):
        return f"{place}@{revision or 'main'}"
    return hash_of({name: hash_of_file(place / name) for name in _FILES if (place / name).is_file()})


def template_change(model: ModelSettings) -> str | None:
    """Return how the chat template that a step uses differs from that of the tokenizer's files, or None."""
    place = locate(model)
    files = _tiny_files(model) if place is None else _files_of(place, model)
    if files is None:
        return None
    used = files.chat_template(model, model.path or "tiny")
    return None if used.text == files.own_template else "; ".join(used.notes)


class _Files:
    """What the files of a tokenizer say about prompts."""

    def __init__(self, template: str | None, special_tokens: Mapping[str, str], tokenizer: Any) -> None:
        self.own_template = template
        self.special_tokens = special_tokens
        self._tokenizer = tokenizer  # Tokenizer, path of a tokenizer.json, or None

    def chat_template(self, model: ModelSettings, path: str) -> ChatTemplate:
        """Return the chat template with which the step writes prompts; r1exp's own if the tokenizer has none."""
        text = CHAT_TEMPLATE if self.own_template is None else self.own_template
        found = adapted(text, self.special_tokens, model.chat_template_kwargs, path)
        if self.own_template is not None:
            return found
        return ChatTemplate(
            found.text, ("the tokenizer has no chat template: r1exp's own is used", *found.notes)
        )

    def encode(self, text: str) -> list[int] | None:
        """Return the token ids of a rendered prompt, or None without a tokenizer.json."""
        if self._tokenizer is None:
            return None
        tokenizer = _read(self._tokenizer) if isinstance(self._tokenizer, str) else self._tokenizer
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def count(self, text: str) -> int | None:
        """Return the number of tokens of a rendered prompt, or None without a tokenizer.json."""
        ids = self.encode(text)
        return None if ids is None else len(ids)


def _tiny_files(model: ModelSettings) -> _Files:
    _, _, tokenizer = check_tiny(model)
    return _Files(TINY_TEMPLATE, {"pad_token": PAD, "eos_token": END}, tokenizer)


def check_template(model: ModelSettings) -> None:
    """Raise Refused if the model's tokenizer is on this machine and its chat template cannot be used."""
    place = locate(model)
    if place is not None and (files := _files_of(place, model)) is not None:
        files.chat_template(model, str(model.path))


def _files_of(place: Path | str, model: ModelSettings) -> _Files | None:
    """Return what the tokenizer's files say; None if they are not on this machine."""
    revision = model.revision
    if isinstance(place, Path) and is_adapter_folder(place) and not (place / _FILES[0]).is_file():
        place, revision = base_of(place)
    found = {name: _file(place, name, revision) for name in _FILES}
    config_file, tokens_file, template_file, tokenizer_file = (found[name] for name in _FILES)
    if config_file is None:
        return None
    config = read_object(config_file, f"model.path={model.path}")
    tokens = read_object(tokens_file, f"model.path={model.path}") if tokens_file else {}
    template = (
        template_file.read_text(encoding="utf-8") if template_file else _default(config.get("chat_template"))
    )
    special = {
        name: value["content"] if isinstance(value, dict) else value
        for name, value in {**tokens, **config}.items()
        if name.endswith("_token")
        and (isinstance(value, str) or (isinstance(value, dict) and "content" in value))
    }
    return _Files(template, special, None if tokenizer_file is None else str(tokenizer_file.resolve()))


def _file(place: Path | str, name: str, revision: str | None) -> Path | None:
    """Return a file of a folder, or of a model of the hub that is in the cache."""
    if isinstance(place, Path):
        return place / name if (place / name).is_file() else None
    from huggingface_hub import try_to_load_from_cache  # imported late: takes 0.1 s

    cached = try_to_load_from_cache(place, name, revision=revision)
    return Path(cached) if isinstance(cached, str) else None


def _default(template: Any) -> str | None:
    """Return the template named `default` where tokenizer_config.json lists several."""
    if isinstance(template, list):
        return next((each["template"] for each in template if each.get("name") == "default"), None)
    return template if isinstance(template, str) else None


@lru_cache(maxsize=4)
def _read(file: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(file)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
