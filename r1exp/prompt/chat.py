"""How a question becomes messages, and messages become text where a tokenizer has no chat template.

The template follows DeepSeek-R1-Zero's (arXiv:2501.12948, table 1): system text, `User: question`,
then `Assistant:`. A line break, not a blank, ends the generation prompt: tokenizers glue a blank to
the word after it, and the prompt would no longer be a prefix of prompt and completion.
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
    """Return the prompt in conversational form: the system text, unless it is "", and the question."""
    system = [{"role": "system", "content": settings.system}] if settings.system else []
    return [*system, {"role": "user", "content": question}]
