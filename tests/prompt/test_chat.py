from pathlib import Path

import pytest
import yaml
from jinja2 import Environment

from r1exp.prompt.chat import CHAT_TEMPLATE, messages
from r1exp.prompt.settings import PromptSettings

CONF = sorted((Path(__file__).parents[2] / "conf" / "prompt").glob("*.yaml"))


def render(turns: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    template = Environment().from_string(CHAT_TEMPLATE)
    return template.render(messages=turns, add_generation_prompt=add_generation_prompt, eos_token="<eos>")


@pytest.mark.parametrize("path", CONF, ids=lambda path: path.stem)
def test_every_yaml_names_its_own_style(path: Path) -> None:
    settings = PromptSettings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert settings.style == path.stem


def test_the_system_message_comes_first() -> None:
    assert messages("1 + 1?", PromptSettings(style="plain", system="Think.")) == [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": "1 + 1?"},
    ]


def test_an_empty_system_text_gives_no_message() -> None:
    turns = messages("1 + 1?", PromptSettings(style="plain", system=""))
    assert [turn["role"] for turn in turns] == ["user"]


def test_the_template_writes_every_role() -> None:
    turns = messages("1 + 1?", PromptSettings(style="plain", system="Think."))
    turns.append({"role": "assistant", "content": "2"})
    expected = "Think.\n\nUser: 1 + 1?\nAssistant:\n2<eos>"
    assert render(turns, add_generation_prompt=False) == expected


def test_the_generation_prompt_is_a_prefix_of_the_whole_conversation() -> None:
    turns = messages("1 + 1?", PromptSettings(style="plain", system="Think."))
    prompt = render(turns, add_generation_prompt=True)
    whole = render([*turns, {"role": "assistant", "content": "2"}], add_generation_prompt=False)
    assert prompt.endswith("Assistant:\n")
    assert whole.startswith(prompt)
