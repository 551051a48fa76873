"""Which tokens of a conversation the assistant wrote, with the chat templates of several families."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pytest

from r1exp.model.preview import chat_tokenizer
from r1exp.model.settings import ModelSettings
from r1exp.model.turns import ChatTokenizer, TurnRewrittenError, num_shared
from r1exp.records import Message
from tests.model.chat_templates import MARKERS, MISTRAL, QWEN3, SPECIAL_TOKENS, TEMPLATES
from tests.model.tokenizers_on_disk import tokenizer_folder

ReadModel = Callable[..., ModelSettings]
Tokenize = Callable[..., tuple[ChatTokenizer, Callable[[list[int]], str]]]
SYSTEM: Message = {"role": "system", "content": "Be brief."}
PLAIN = ("It is 7.", "Then 12, of course.", "No more.")
THINKING = ("<think>3 + 4</think>\n7", "<think>7 + 5</think>\n12", "<think>none</think>\nNo more.")
# What ends a turn in the middle of a conversation, and the last one.
ENDS = {
    "qwen2.5": ("<|im_end|>\n", "<|im_end|>\n"),
    "qwen3": ("<|im_end|>\n", "<|im_end|>\n"),
    "llama 3": ("<|eot_id|>", "<|eot_id|>"),
    "gemma 2": ("<end_of_turn>\n", "<end_of_turn>\n"),
    "gemma 3": ("<end_of_turn>\n", "<end_of_turn>\n"),
    "phi": ("<|end|>\n", "<|end|>\n</s>"),
    "smollm2": ("<|im_end|>\n", "<|im_end|>\n"),
    "drops system": ("</s>\n", "</s>\n"),
}


def chat(answers: tuple[str, ...], *before: Message) -> list[Message]:
    questions = ("What is 3 + 4?", "And 5 more?", "More?")
    turns = [
        {"role": role, "content": text}
        for question, answer in zip(questions, answers, strict=True)
        for role, text in (("user", question), ("assistant", answer))
    ]
    return [*before, *turns]


def answers_in(messages: list[Message]) -> list[int]:
    return [place for place, message in enumerate(messages) if message["role"] == "assistant"]


@pytest.fixture
def tokenize(tmp_path: Path, read_model: ReadModel) -> Tokenize:
    """Return a function that returns the tokenizer of a template as `plan` reads it, and its inverse."""

    def make(template: str, **changes: object) -> tuple[ChatTokenizer, Callable[[list[int]], str]]:
        from tokenizers import Tokenizer

        folder = tokenizer_folder(tmp_path / "model", template)
        found = chat_tokenizer(read_model("hf", path=str(folder), **changes))
        assert found is not None
        inverse = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return found, lambda ids: inverse.decode(ids, skip_special_tokens=False)

    return make


@pytest.mark.parametrize("before", [[], [SYSTEM]], ids=["no system text", "system text"])
@pytest.mark.parametrize("answers", [PLAIN, THINKING], ids=["plain", "thinking"])
@pytest.mark.parametrize("name", [name for name in ENDS if name != "qwen3"])
def test_the_tokens_that_are_learned_are_the_answers_and_their_ends(
    name: str, answers: tuple[str, ...], before: list[Message], tokenize: Tokenize
) -> None:
    tokenizer, decode = tokenize(TEMPLATES[name])
    messages = chat(answers, *before)
    ids, mask = tokenizer.tokens(messages, answers_in(messages))
    assert decode(ids) == tokenizer.render(messages, False)
    middle, last = ENDS[name]
    found = [
        decode([token for token, _ in part])
        for learned, part in groupby(zip(ids, mask, strict=True), lambda pair: pair[1])
        if learned
    ]
    assert found == [answers[0] + middle, answers[1] + middle, answers[2] + last]


@pytest.mark.parametrize("name", list(ENDS))
def test_each_answer_follows_the_prompt_that_sampling_gives_the_model(name: str, tokenize: Tokenize) -> None:
    tokenizer, _ = tokenize(TEMPLATES[name])
    messages = chat(PLAIN, SYSTEM)
    ids, mask = tokenizer.tokens(messages, answers_in(messages))
    starts = [place for place in range(1, len(ids)) if mask[place] and not mask[place - 1]]
    prompts = [tokenizer.encode(tokenizer.render(messages[:turn], True)) for turn in answers_in(messages)]
    assert [ids[:start] for start in starts] == prompts


def test_only_the_turns_that_are_named_are_learned(tokenize: Tokenize) -> None:
    tokenizer, decode = tokenize(TEMPLATES["qwen2.5"])
    messages = chat(PLAIN)
    ids, mask = tokenizer.tokens(messages, [3])
    assert decode([token for token, on in zip(ids, mask, strict=True) if on]) == f"{PLAIN[1]}<|im_end|>\n"


def test_a_template_that_removes_earlier_thinking_is_refused_for_chats_that_think(tokenize: Tokenize) -> None:
    tokenizer, _ = tokenize(QWEN3)
    messages = chat(THINKING)
    with pytest.raises(TurnRewrittenError, match="thinking of earlier turns is removed"):
        tokenizer.check(messages, answers_in(messages))
    tokenizer.check(messages, [5])
    tokenizer.check(messages[:4], [3])
    plain = chat(PLAIN)
    tokenizer.check(plain, answers_in(plain))


def test_a_template_that_opens_earlier_turns_differently_is_refused(tokenize: Tokenize) -> None:
    """With enable_thinking=false the model is given empty thinking, which earlier turns do not show."""
    tokenizer, _ = tokenize(QWEN3, chat_template_kwargs={"enable_thinking": False})
    messages = chat(PLAIN)
    with pytest.raises(TurnRewrittenError, match="how it is opened, differ from the prompt"):
        tokenizer.check(messages, answers_in(messages))


def test_a_template_that_moves_the_system_text_is_refused(tokenize: Tokenize) -> None:
    tokenizer, _ = tokenize(MISTRAL)
    messages = chat(PLAIN, SYSTEM)
    with pytest.raises(TurnRewrittenError, match="what comes before it"):
        tokenizer.check(messages, answers_in(messages))


def test_a_template_that_ends_only_the_last_turn_is_refused(tokenize: Tokenize) -> None:
    tokenizer, _ = tokenize(
        "{%- for message in messages -%}{{- message['content'] + '\\n' if message['role'] == 'user' else message['content'] -}}"
        "{%- if message['role'] == 'assistant' and loop.last -%}{{- eos_token -}}{%- endif -%}{%- endfor -%}"
    )
    messages = chat(PLAIN)
    with pytest.raises(TurnRewrittenError, match="no mark after it says that it ends"):
        tokenizer.check(messages, answers_in(messages))


def test_the_markers_of_the_tests_are_tokens(tokenize: Tokenize) -> None:
    """Else the tests above would compare bytes, and an end could be shared with the start of the next turn."""
    tokenizer, _ = tokenize(TEMPLATES["phi"])
    assert all(len(tokenizer.encode(mark)) == 1 for mark in [*MARKERS, *SPECIAL_TOKENS.values()])


def test_shared_tokens_are_counted_from_the_start() -> None:
    assert [num_shared([1, 2, 3], other) for other in ([1, 2, 4], [1, 2], [2], [1, 2, 3, 4])] == [2, 2, 0, 3]
