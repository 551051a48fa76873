"""Builds the messages of a prompt, and defines the chat template for tokenizers that have none.

The template follows DeepSeek-R1-Zero's (arXiv:2501.12948, table 1): system message, `User: question`,
then `Assistant:`. The generation prompt ends with a line break and not with a space, because tokenizers
merge a space with the following word, and the tokens of the prompt would no longer be a prefix of those
of prompt and completion.
"""

from r1exp.prompt.settings import PromptSettings
from r1exp.records import Message

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] + '\\n\\n' -}}
{%- elif message['role'] == 'user' -%}
{{- 'User: ' + message['content'] + '\\n' -}}
{%- elif message['role'] == 'assistant' -%}
{{- 'Assistant:\\n' + message['content'] + eos_token -}}
{%- if not loop.last -%}{{- '\\n' -}}{%- endif -%}
{%- else -%}
{{- raise_exception('role ' + message['role'] + ' is none of system, user, assistant') -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:\\n' -}}{%- endif -%}
"""


def messages(question: str, settings: PromptSettings) -> list[Message]:
    """Return the prompt in conversational form: the system message, unless it is "", and the question."""
    system = [{"role": "system", "content": settings.system}] if settings.system else []
    return [*system, {"role": "user", "content": question}]


def without_system_role(prompt: list[Message]) -> list[Message]:
    """Return the same prompt with its system text before the first question, for a template that refuses the role."""
    if not prompt or prompt[0]["role"] != "system":
        return prompt
    system, rest = prompt[0]["content"], prompt[1:]
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system}, *rest]
    return [{**rest[0], "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]
