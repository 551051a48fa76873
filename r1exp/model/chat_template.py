"""Renders chat templates as transformers 5.17 does, and adapts those that a prompt of r1exp would not survive. Torch-free.

What a template does is found by rendering a probe, never from the model's name:

    system text refused or left out   the text is written before the first user turn, two line breaks apart
    last answer rewritten             the prompt is rendered alone and the answer follows it unchanged, so that SFT
                                      and DPO train on the tokens that sampling produces (Qwen3 rewrites `<think>`)
    `model.chat_template_kwargs`      become the template's defaults, for example enable_thinking=false

The changes are written into the template itself. Everything that renders a prompt then agrees: TRL's trainers, every
rollout, and whoever loads the exported model. An adapted template passes the probes, and is not adapted again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from r1exp.errors import Refused
from r1exp.model.tokenizer import CHAT_TEMPLATE as TINY_TEMPLATE
from r1exp.records import Message

_SYSTEM, _QUESTION, _ANSWER = "r1exp-system-probe", "r1exp-question-probe", "r1exp-answer-probe"
# An answer in each form that published templates are known to change.
_ANSWERS = (_ANSWER, f"<think>{_ANSWER}</think>\n<answer>4</answer>", f"<think>\n{_ANSWER}\n</think>\n\n4")
_GIVEN = frozenset({"messages", "add_generation_prompt", "tools", "documents"})  # what every caller passes

_SYSTEM_FIRST = (
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- if messages|length > 1 and messages[1]['role'] == 'user' -%}"
    "{%- set messages = [dict(messages[1], content=messages[0]['content'] + '\\n\\n' + messages[1]['content'])]"
    " + messages[2:] -%}"
    "{%- else -%}"
    "{%- set messages = [dict(messages[0], role='user')] + messages[1:] -%}"
    "{%- endif -%}"
    "{%- endif -%}"
)


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template with which every prompt of r1exp can be written."""

    text: str  # Jinja
    notes: tuple[str, ...]  # what was changed, and what a user should know


class _Generation(Extension):
    """Accepts `{% generation %}`, with which a template marks the assistant's tokens, and renders what is inside."""

    tags = {"generation"}  # noqa: RUF012 # declared so by Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def render(
    template: str,
    messages: list[Message],
    special_tokens: Mapping[str, str],
    *,
    add_generation_prompt: bool = True,
    **arguments: Any,
) -> str:
    """Return what `apply_chat_template(messages, tokenize=False)` of transformers returns.

    Args:
        template: Jinja text.
        messages: The conversation.
        special_tokens: The tokenizer's `special_tokens_map`, for example {"eos_token": "</s>"}.
        add_generation_prompt: Whether the assistant's turn is opened at the end.
        arguments: Further variables of the template.

    Raises:
        TemplateError: the template is not valid, or it refuses the conversation.
    """
    values = {**special_tokens, **arguments}
    return _compiled(template).render(
        messages=messages,
        tools=None,
        documents=None,
        add_generation_prompt=add_generation_prompt,
        **values,
    )


def adapted(
    template: str,
    special_tokens: Mapping[str, str],
    arguments: Mapping[str, str | int | float | bool],
    path: str,
) -> ChatTemplate:
    """Return the template with the changes of the module's docstring that it needs, and notes about them.

    Args:
        template: Jinja text, as the tokenizer has it.
        special_tokens: The tokenizer's `special_tokens_map`.
        arguments: `model.chat_template_kwargs`.
        path: Of the model, for messages.

    Raises:
        Refused: the template cannot be used, or it does not read one of the arguments.
    """
    text, notes = template, []
    if arguments:
        text = _with_defaults(text, arguments, path)
        notes.append("chat template: " + ", ".join(f"{name}={value}" for name, value in arguments.items()))
    if "strftime_now" in template and "date_string" in template and "date_string" not in arguments:
        notes.append(
            "the chat template writes today's date; fix it with model.chat_template_kwargs.date_string=..."
        )
    if template.strip() == TINY_TEMPLATE.strip():
        # Deliberate: a model without pretraining cannot follow an instruction.
        return ChatTemplate(text, (*notes, "the template of the tiny model leaves the system text out"))
    what = _system_text(text, special_tokens)
    if what != "kept":
        text = _SYSTEM_FIRST + text
        notes.append(
            f"the chat template {what} system text, which is written before the first question instead"
        )
        if (reason := _problem(text, special_tokens)) is not None:
            raise Refused(
                f"model.path={path}: its chat template cannot be used ({reason}), neither with a system message nor "
                "with its text before the question; correct chat_template.jinja there, or choose another model"
            )
    return ChatTemplate(_with_unchanged_answers(text, special_tokens, path), tuple(notes))


def _system_text(template: str, special_tokens: Mapping[str, str]) -> str:
    """Return what the template does with system text: "kept", "refuses" or "leaves out"."""
    problem = _problem(template, special_tokens)
    if problem is None:
        return "kept"
    return "leaves out" if problem == _LEFT_OUT else "refuses"


_LEFT_OUT = "it leaves the system text out"


def _problem(template: str, special_tokens: Mapping[str, str]) -> str | None:
    """Return why a prompt with system text cannot be written with the template, or None."""
    conversation = [_message("system", _SYSTEM), _message("user", _QUESTION)]
    try:
        text = render(template, conversation, special_tokens)
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        return _reason(error)
    if _QUESTION not in text:
        return "it leaves the question out"
    return None if _SYSTEM in text else _LEFT_OUT


def _with_defaults(template: str, arguments: Mapping[str, str | int | float | bool], path: str) -> str:
    """Return the template with `arguments` as defaults of its variables."""
    try:
        read = meta.find_undeclared_variables(_environment().parse(template))
    except TemplateError as error:
        raise Refused(_unusable(path, error)) from error
    known = sorted(read - _GIVEN - set(_environment().globals))
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise Refused(
            f"model.chat_template_kwargs.{unknown[0]}: the chat template of model.path={path} does not read it; "
            f"it reads {', '.join(known) or 'nothing but the messages'}"
        )
    defaults = (
        f"{{%- set {name} = {name} if {name} is defined else {json.dumps(value)} -%}}"
        for name, value in arguments.items()
    )
    return "".join(defaults) + template


def _with_unchanged_answers(template: str, special_tokens: Mapping[str, str], path: str) -> str:
    """Return a template in which a last answer follows its prompt unchanged; the same template if it does already."""
    asked = [_message("system", _SYSTEM), _message("user", _QUESTION)]
    try:
        prompt = render(template, asked, special_tokens)
        whole = [
            render(
                template, [*asked, _message("assistant", answer)], special_tokens, add_generation_prompt=False
            )
            for answer in _ANSWERS
        ]
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise Refused(_unusable(path, error)) from error
    _, found, end = whole[0].rpartition(_ANSWER)
    if not found:
        raise Refused(_unusable(path, "it leaves the answer out"))
    if all(text == prompt + answer + end for text, answer in zip(whole, _ANSWERS, strict=True)):
        return template
    body = template.removesuffix("\n")  # Jinja drops one line break at the end of a template
    return (
        f"{{%- macro r1exp_original(messages, add_generation_prompt) %}}{{{{ '' }}}}{body}{{{{ '' }}}}{{% endmacro -%}}"
        "{%- if messages[-1]['role'] == 'assistant' and not add_generation_prompt -%}"
        f"{{{{- r1exp_original(messages[:-1], true) + messages[-1]['content'] + {json.dumps(end)} -}}}}"
        "{%- else -%}{{- r1exp_original(messages, add_generation_prompt) -}}{%- endif -%}"
    )


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _unusable(path: str, error: Exception | str) -> str:
    reason = error if isinstance(error, str) else _reason(error)
    return (
        f"model.path={path}: its chat template cannot be used ({reason}); correct chat_template.jinja there, or "
        "choose another model"
    )


@lru_cache(maxsize=32)
def _compiled(template: str) -> Template:
    return _environment().from_string(template)


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    """Return Jinja's environment with the options and functions of transformers 5.17."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON; Jinja's own filter escapes HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise TemplateError(message)
