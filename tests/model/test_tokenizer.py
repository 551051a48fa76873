"""Tests of the tiny model's tokenizer: one token per known word, lossless decoding, and stable ids."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from r1exp.model.tokenizer import END, END_ID, PAD, PAD_ID, build_tokenizer, vocabulary
from r1exp.prompt.style import STYLES, style_named

TEXTS = [
    "<think>1 + 2 = 3</think>\n<answer>3</answer>",
    "<reasoning_process> a </reasoning_process>\n<summary>7</summary>",
    "so \\boxed{42}\n#### 42",
    "Natalia sold 48/2 = <<48/2=24>>24 clips, i.e. $1,234.50 (50%)!",
    "小明有三个苹果，又买了 14 个。",
    "🦜 e\u0301 é ﬁ ½ \u200d👩\u200d👩 ไทย العربية",
    "  two  blanks,\ttab,\r\nreturn, \u00a0no-break \u2028 line \u0085 next \x00 zero ",
    "I'd've <b>bold</b> <Think> < think > </ answer>",
    "0123456789 9 8 7.60",
    "",
]


def ids_in_a_fresh_process(folder: Path) -> list[list[int]]:
    code = (
        "import json, sys; from transformers import AutoTokenizer;"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1]);"
        "print(json.dumps([tokenizer(text).input_ids for text in json.load(sys.stdin)]))"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, input=json.dumps(TEXTS), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_saving_and_loading_through_auto_classes_keeps_every_id(tiny_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    built = Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    expected = [built.encode(text).ids for text in TEXTS]
    folder = tiny_folder
    for number in range(2):  # each round saves what the round before loaded
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert [tokenizer(text).input_ids for text in TEXTS] == expected
        folder = tmp_path / str(number)
        AutoModelForCausalLM.from_pretrained(tiny_folder).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    assert ids_in_a_fresh_process(folder) == expected


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_is_decoded_unchanged(text: str) -> None:
    tokenizer = build_tokenizer(vocabulary(["Tom has 3 apples"]))
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("style", list(STYLES))
def test_every_mark_of_a_style_is_one_ordinary_token(style: str, tiny_folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    marks = style_named(style).tags or {"boxed": ("\\boxed{",), "plain": ("####",)}[style]
    for mark in marks:
        ids = tokenizer.encode(f" {mark}7").ids
        assert [tokenizer.decode([number]) for number in ids] == [" ", mark, "7"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == f" {mark}7"


def test_every_digit_is_one_token_at_any_position() -> None:
    tokens = build_tokenizer(vocabulary([])).encode("x 1024 + 7=1031").tokens
    assert tokens == ["x", "Ġ1", "0", "2", "4", "Ġ", "+", "Ġ7", "=", "1", "0", "3", "1"]


def test_a_known_word_is_one_token_and_an_unknown_one_its_bytes() -> None:
    tokenizer = build_tokenizer(vocabulary(["Tom has apples"]))
    assert tokenizer.encode("Tom has pé").tokens == ["Tom", "Ġhas", "Ġ", "p", "Ã", "©"]


def test_a_chinese_character_is_one_token_where_the_vocabulary_has_them() -> None:
    tokenizer = build_tokenizer(vocabulary(["三加十二", "Tom has"], han=True), han=True)
    encoded = tokenizer.encode("Tom十三 has 加")
    assert [tokenizer.decode([number]) for number in encoded.ids] == ["Tom", "十", "三", " has", " ", "加"]
    assert tokenizer.decode(encoded.ids) == "Tom十三 has 加"
    without = build_tokenizer(vocabulary(["三加十二", "Tom has"]))  # a run of letters is one piece
    assert len(without.encode("十三").ids) == 6  # bytes


def test_the_vocabulary_depends_on_the_words_and_not_on_their_order() -> None:
    assert vocabulary(["Tom has", "apples"]) == vocabulary(["apples", "Tom has", "apples"])
    assert len(vocabulary([])) == 2 + 256 + 10  # specials, bytes, digits after a blank


def test_padding_and_end_of_sequence_are_different_tokens() -> None:
    tokens = vocabulary([])
    assert (tokens[PAD_ID], tokens[END_ID]) == (PAD, END)
    assert PAD_ID != END_ID


@pytest.mark.slow
def test_the_chat_template_drops_the_system_message_and_keeps_the_prompt_a_prefix(
    tiny_folder: Path,
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    prompt = [{"role": "system", "content": "Think first."}, {"role": "user", "content": "1 + 1?"}]
    full = [*prompt, {"role": "assistant", "content": "2"}]
    assert tokenizer.apply_chat_template(full, tokenize=False) == f"1 + 1?\n2{END}"
    start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template(full, return_dict=True, return_assistant_tokens_mask=True)
    assert whole["input_ids"][: len(start)] == start
    assert whole["assistant_masks"] == [0] * len(start) + [1] * (len(whole["input_ids"]) - len(start))
    assert whole["input_ids"][-1] == tokenizer.eos_token_id == END_ID
