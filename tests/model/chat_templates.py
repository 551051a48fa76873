"""Chat templates that behave as published ones do, written for the tests; none is a copy.

Every template renders `system`, `user` and `assistant` turns with the markers of its family. What matters is stated
beside each: what happens to system text, whether turns must alternate, what happens to thinking, and who writes BOS.
"""

_TURNS = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
)
_OPEN = "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
_ALTERNATE = (
    "{%- for message in turns -%}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('turns must alternate between user and assistant') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
)


def _system_default(text: str) -> str:
    return (
        "{%- if messages[0]['role'] != 'system' -%}"
        f"{{{{- '<|im_start|>system\\n{text}<|im_end|>\\n' -}}}}"
        "{%- endif -%}"
    )


QWEN25 = _system_default("A default text.") + _TURNS + _OPEN

# Thinking of earlier turns is removed, that of the last answer is written in a form of its own, and
# enable_thinking=false opens the answer with empty thinking.
QWEN3 = (
    "{%- set ns = namespace(last=0) -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}"
    "{%- endfor %}"
    "{%- for message in messages -%}"
    "{%- set content = message['content'] -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- set thinking = '' -%}"
    "{%- if '</think>' in content -%}"
    "{%- set thinking = content.split('</think>')[0].split('<think>')[-1].strip('\\n') -%}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') -%}"
    "{%- endif -%}"
    "{%- if loop.index0 > ns.last -%}"
    "{%- set content = '<think>\\n' + thinking + '\\n</think>\\n\\n' + content -%}"
    "{%- endif -%}"
    "{%- endif -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|im_start|>assistant\\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think>\\n\\n</think>\\n\\n' -}}"
    "{%- endif -%}"
    "{%- endif -%}"
)

# The template writes BOS, and a system turn with a date.
LLAMA3 = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now('%d %b %Y') %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date_string + '\\n\\n' + system + '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

_GEMMA_TURNS = (
    "{%- for message in turns -%}"
    "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
    "{{- '<start_of_turn>' + role + '\\n' + (message['content'] | trim) + '<end_of_turn>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}"
)

# A system role is refused.
GEMMA2 = (
    "{{- bos_token -}}"
    "{%- if messages[0]['role'] == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}"
    "{%- set turns = messages -%}" + _ALTERNATE + _GEMMA_TURNS
)

# System text is written before the first question.
GEMMA3 = (
    "{{- bos_token -}}"
    "{%- set turns = messages -%}"
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- set turns = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}]"
    " + messages[2:] -%}"
    "{%- endif -%}" + _ALTERNATE + _GEMMA_TURNS
)

# System text is written before the last question; an answer ends with EOS.
MISTRAL = (
    "{{- bos_token -}}"
    "{%- set turns = messages[1:] if messages[0]['role'] == 'system' else messages -%}"
    "{%- set system = messages[0]['content'] + '\\n\\n' if messages[0]['role'] == 'system' else '' -%}"
    + _ALTERNATE
    + "{%- set asked = turns | selectattr('role', 'equalto', 'user') | list -%}"
    "{%- for message in turns -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- '[INST] ' + (system if message == asked[-1] else '') + message['content'] + '[/INST]' -}}"
    "{%- else -%}{{- ' ' + message['content'] + eos_token -}}{%- endif -%}"
    "{%- endfor -%}"
)

# A conversation without an open answer ends with EOS, after the end of its last turn.
PHI = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- else -%}{{- eos_token -}}{%- endif -%}"
)

SMOLLM2 = _system_default("You are helpful.") + _TURNS + _OPEN

# System text is left out without a word.
DROPS_SYSTEM = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{- 'Question: ' + message['content'] + '\\nAnswer:\\n' -}}"
    "{%- elif message['role'] == 'assistant' -%}{{- message['content'] + eos_token + '\\n' -}}{%- endif -%}"
    "{%- endfor -%}"
)

TEMPLATES = {
    "qwen2.5": QWEN25,
    "qwen3": QWEN3,
    "llama 3": LLAMA3,
    "gemma 2": GEMMA2,
    "gemma 3": GEMMA3,
    "mistral": MISTRAL,
    "phi": PHI,
    "smollm2": SMOLLM2,
    "drops system": DROPS_SYSTEM,
}
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
MARKERS = (
    "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>",
    "<end_of_turn>", "[INST]", "[/INST]", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>",
)  # fmt: skip
