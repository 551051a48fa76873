"""Tests of chat templates: system text is kept, answers are unchanged, and `plan` shows what the model receives."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from r1exp.errors import Refused
from r1exp.model.chat_template import adapted, render
from r1exp.model.preview import first_prompt
from r1exp.model.settings import ModelSettings
from r1exp.records import Message
from tests.model.chat_templates import DROPS_SYSTEM, GEMMA2, LLAMA3, QWEN3, SPECIAL_TOKENS, TEMPLATES
from tests.model.tokenizers_on_disk import tokenizer_folder

ReadModel = Callable[..., ModelSettings]
PROMPT: list[Message] = [
    {"role": "system", "content": "Think first."},
    {"role": "user", "content": "What is 3 + 4?"},
]
ANSWERS = [
    pytest.param("<think>3 + 4 = 7</think>\n<answer>7</answer>", id="tags"),
    pytest.param("<think>\n3 + 4 = 7\n</think>\n\n7", id="thinking"),
    pytest.param("3 + 4 = 7\n#### 7", id="plain"),
]
every_template = pytest.mark.parametrize("name", list(TEMPLATES))


def answered(answer: str) -> list[Message]:
    return [*PROMPT, {"role": "assistant", "content": answer}]


@every_template
def test_a_prompt_holds_the_system_text_and_the_question_once(name: str) -> None:
    template = adapted(TEMPLATES[name], SPECIAL_TOKENS, {}, name)
    text = render(template.text, PROMPT, SPECIAL_TOKENS)
    assert (text.count("Think first."), text.count("What is 3 + 4?")) == (1, 1)
    assert text.index("Think first.") < text.index("What is 3 + 4?")
    assert text.count("<s>") <= 1


@every_template
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_follows_its_prompt_unchanged(name: str, answer: str) -> None:
    template = adapted(TEMPLATES[name], SPECIAL_TOKENS, {}, name)
    prompt = render(template.text, PROMPT, SPECIAL_TOKENS)
    whole = render(template.text, answered(answer), SPECIAL_TOKENS, add_generation_prompt=False)
    end = whole.removeprefix(prompt + answer)
    assert end != whole
    assert end in ("<|im_end|>\n", "<|eot_id|>", "<end_of_turn>\n", "</s>", "</s>\n", "<|end|>\n</s>")


@every_template
def test_an_adapted_template_is_not_adapted_again(name: str) -> None:
    once = adapted(TEMPLATES[name], SPECIAL_TOKENS, {}, name)
    assert adapted(once.text, SPECIAL_TOKENS, {}, name).text == once.text


@pytest.mark.parametrize("name", ["qwen2.5", "gemma 3", "phi", "smollm2"])
def test_a_template_that_needs_no_change_gets_none(name: str) -> None:
    template = adapted(TEMPLATES[name], SPECIAL_TOKENS, {}, name)
    assert (template.text, template.notes) == (TEMPLATES[name], ())


def test_a_conversation_keeps_its_order_where_system_text_moves() -> None:
    turns = [*answered("7"), {"role": "user", "content": "And 5 + 6?"}]
    text = render(adapted(GEMMA2, SPECIAL_TOKENS, {}, "").text, turns, SPECIAL_TOKENS)
    expected = ["Think first.\n\nWhat is 3 + 4?", "model\n7", "And 5 + 6?", "model\n"]
    assert [text.index(part) for part in expected[:3]] == sorted(text.index(part) for part in expected[:3])
    assert text.endswith(expected[3])
    assert text.count("Think first.") == 1


def test_thinking_of_earlier_turns_is_still_removed() -> None:
    turns = [*answered("<think>secret</think>\n7"), {"role": "user", "content": "And 5 + 6?"}]
    template = adapted(QWEN3, SPECIAL_TOKENS, {}, "").text
    assert "secret" not in render(template, turns, SPECIAL_TOKENS)
    last = [*turns, {"role": "assistant", "content": "<think>new</think>\n11"}]
    text = render(template, last, SPECIAL_TOKENS, add_generation_prompt=False)
    assert text.endswith("assistant\n<think>new</think>\n11<|im_end|>\n")
    assert "secret" not in text


@pytest.mark.parametrize("thinks", [True, False])
def test_thinking_is_switched_for_prompts_and_for_answers(thinks: bool) -> None:
    template = adapted(QWEN3, SPECIAL_TOKENS, {"enable_thinking": thinks}, "").text
    prompt = render(template, PROMPT, SPECIAL_TOKENS)
    assert prompt.endswith("assistant\n" if thinks else "assistant\n<think>\n\n</think>\n\n")
    whole = render(template, answered("7"), SPECIAL_TOKENS, add_generation_prompt=False)
    assert whole == f"{prompt}7<|im_end|>\n"
    other = adapted(template, SPECIAL_TOKENS, {"enable_thinking": not thinks}, "").text
    assert render(other, PROMPT, SPECIAL_TOKENS) != prompt, "a later step can switch it again"


def test_a_date_can_be_fixed() -> None:
    template = adapted(LLAMA3, SPECIAL_TOKENS, {"date_string": "26 Jul 2024"}, "")
    assert "Today Date: 26 Jul 2024\n" in render(template.text, PROMPT, SPECIAL_TOKENS)
    assert not any("today's date" in note for note in template.notes)
    assert any("today's date" in note for note in adapted(LLAMA3, SPECIAL_TOKENS, {}, "").notes)


def test_a_variable_that_the_template_does_not_read_is_refused() -> None:
    with pytest.raises(Refused, match=r"chat_template_kwargs.enable_thinkin: .* reads enable_thinking"):
        adapted(QWEN3, SPECIAL_TOKENS, {"enable_thinkin": False}, "x")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        pytest.param("{{ raise_exception('only tools') }}", "only tools", id="refuses everything"),
        pytest.param("{% for m in messages %}", "Unexpected end of template", id="not a template"),
        pytest.param("{{ bos_token }}", "leaves the question out", id="constant"),
        pytest.param(
            "{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}",
            "leaves the answer out",
            id="no answers",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        adapted(template, SPECIAL_TOKENS, {}, "x")


_TRL = find_spec("trl")  # found without importing it
assert _TRL is not None and _TRL.origin is not None
PUBLISHED = sorted(Path(_TRL.origin).parent.joinpath("chat_templates").glob("*.jinja"))
TEXT_ONLY = [path for path in PUBLISHED if not path.stem.startswith(("idefics", "llava", "smolvlm"))]


@pytest.mark.slow
@pytest.mark.parametrize("path", TEXT_ONLY, ids=lambda path: path.stem)
def test_the_published_templates_that_trl_ships_keep_system_text_and_answers(path: Path) -> None:
    template = adapted(path.read_text(), SPECIAL_TOKENS, {}, path.stem).text
    prompt = render(template, PROMPT, SPECIAL_TOKENS)
    assert prompt.count("Think first.") == 1
    answer = "<think>3 + 4 = 7</think>\n<answer>7</answer>"
    whole = render(template, answered(answer), SPECIAL_TOKENS, add_generation_prompt=False)
    assert whole.startswith(prompt + answer)


def test_a_preview_of_the_tiny_model_needs_no_files(read_model: ReadModel) -> None:
    preview = first_prompt(read_model("tiny"), PROMPT)
    assert preview.text == "What is 3 + 4?\n"
    assert preview.num_tokens is not None and 5 < preview.num_tokens < 15
    assert "leaves the system text out" in preview.note


def test_a_preview_without_a_tokenizer_shows_the_messages(read_model: ReadModel) -> None:
    preview = first_prompt(read_model("hf", path="nobody/none-such"), PROMPT)
    assert preview.text == "system: Think first.\nuser: What is 3 + 4?"
    assert preview.num_tokens is None and "nobody/none-such" in preview.note


def test_a_preview_says_where_the_system_text_went(tmp_path: Path, read_model: ReadModel) -> None:
    folder = tokenizer_folder(tmp_path / "model", GEMMA2)
    preview = first_prompt(read_model("hf", path=str(folder)), PROMPT)
    assert preview.text.startswith("<s><start_of_turn>user\nThink first.\n\nWhat is")
    assert "refuses system text" in preview.note


@pytest.mark.slow
@every_template
@pytest.mark.parametrize("answer", ANSWERS)
def test_ids_are_those_of_transformers_and_survive_the_round_trip(
    name: str, answer: str, tmp_path: Path, read_model: ReadModel
) -> None:
    from r1exp.model.load import load_tokenizer

    folder = tokenizer_folder(tmp_path / "model", TEMPLATES[name])
    settings = read_model("hf", path=str(folder))
    tokenizer = load_tokenizer(str(folder), settings)
    preview = first_prompt(settings, PROMPT)
    prompt: list[int] = ids_of(tokenizer, PROMPT, add_generation_prompt=True)
    assert preview.text == tokenizer.apply_chat_template(PROMPT, tokenize=False, add_generation_prompt=True)
    assert preview.num_tokens == len(prompt)
    assert prompt.count(tokenizer.bos_token_id) == preview.text.count("<s>") <= 1
    sampled = tokenizer(answer, add_special_tokens=False)["input_ids"]
    assert ids_of(tokenizer, answered(answer))[: len(prompt) + len(sampled)] == prompt + sampled
    tokenizer.save_pretrained(tmp_path / "artifact")
    (tmp_path / "artifact" / "config.json").write_text('{"model_type": "llama"}')
    again = load_tokenizer(str(tmp_path / "artifact"), settings)
    assert ids_of(again, answered(answer)) == ids_of(tokenizer, answered(answer))


def ids_of(tokenizer: Any, conversation: list[Message], **options: bool) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(conversation, return_dict=False, **options)
    return ids


@pytest.mark.slow
def test_a_tokenizer_with_several_templates_uses_the_default(tmp_path: Path, read_model: ReadModel) -> None:
    from r1exp.model.load import load_tokenizer

    folder = tokenizer_folder(tmp_path / "model", "")
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = [
        {"name": "tool_use", "template": "{{ raise_exception('tools') }}"},
        {"name": "default", "template": DROPS_SYSTEM},
    ]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    settings = read_model("hf", path=str(folder))
    text = load_tokenizer(str(folder), settings).apply_chat_template(
        PROMPT, tokenize=False, add_generation_prompt=True
    )
    assert (
        text == first_prompt(settings, PROMPT).text == "Question: Think first.\n\nWhat is 3 + 4?\nAnswer:\n"
    )
