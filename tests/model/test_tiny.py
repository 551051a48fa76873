"""Tests of the tiny model: reproducible bytes, all files or none, and a Llama that transformers loads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from r1exp.dataset.arithmetic import all_texts
from r1exp.errors import Refused
from r1exp.files import hash_of_folder
from r1exp.model.settings import ModelSettings
from r1exp.model.tiny import build_tiny, random_weights
from r1exp.prompt.style import style_named

ReadModel = Callable[..., ModelSettings]


def test_two_builds_have_the_same_bytes_and_another_seed_different_ones(
    read_model: ReadModel, tmp_path: Path
) -> None:
    settings = read_model("tiny")
    first = hash_of_folder(build_tiny(settings, tmp_path / "first"))
    assert hash_of_folder(build_tiny(settings, tmp_path / "second")) == first
    assert hash_of_folder(build_tiny(read_model("tiny", init_seed=1), tmp_path / "other")) != first


def test_the_weights_are_the_same_on_every_machine(read_model: ReadModel) -> None:
    shape = read_model("tiny").shape
    assert shape is not None
    weights = random_weights(shape, seed=0)
    # Mersenne Twister seeded with 0 begins with 0.5488135039..., mapped to [-b, b], b = 0.05 * sqrt(3).
    first = np.float32((2 * 0.5488135039273248 - 1) * 0.05 * 3**0.5)
    assert weights["model.embed_tokens.weight"][0, 0] == first
    assert weights["model.layers.1.mlp.down_proj.weight"].std() == pytest.approx(0.05, rel=0.01)


def test_a_vocab_size_below_that_of_the_tokenizer_is_refused_and_nothing_is_written(
    read_model: ReadModel,
    tmp_path: Path,
) -> None:
    shape = read_model("tiny").shape
    assert shape is not None
    small = read_model("tiny", shape={**shape.model_dump(), "vocab_size": 200})
    with pytest.raises(Refused, match="vocab_size=200"):
        build_tiny(small, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_an_arithmetic_problem_is_short(tiny_folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    texts = all_texts()
    question = max(texts[1::2], key=len)
    answer = style_named("think_answer").write(texts[2], "22")
    assert len(tokenizer.encode(f"{question}\n").ids) <= 30
    # <think> 3 + 1 2 = 1 5 newline 1 5 + 7 = 2 2 </think> newline <answer> 2 2 </answer>
    assert len(tokenizer.encode(answer).ids) == 22
    tokens = {token for text in texts for token in tokenizer.encode(text).tokens}
    letters = [token for token in tokens if len(token) == 1 and token.isalpha() and token.isascii()]
    assert letters == [], "a word of the task is encoded as bytes"


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_transformers_finds_every_weight_and_no_other(
    read_model: ReadModel, tied: bool, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    shape = read_model("tiny").shape
    assert shape is not None
    changed = {**shape.model_dump(), "tie_word_embeddings": tied, "num_key_value_heads": 2}
    folder = build_tiny(read_model("tiny", shape=changed), tmp_path / "model")
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(model).__name__ == "LlamaForCausalLM"
    assert (model.config.pad_token_id, model.config.eos_token_id) == (0, 1)


@pytest.mark.parametrize("name", ["tiny_bilingual", "tiny_bilingual_student"])
def test_every_word_of_the_bilingual_task_is_one_token(
    name: str, read_model: ReadModel, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(build_tiny(read_model(name), tmp_path / "model") / "tokenizer.json"))
    for text, num_tokens in (
        ("We add three to twelve and get fifteen.", 9),
        ("十二加三等于十五。", 9),
        ("小明有3个苹果", 7),
        ("对不起，小明，我不能帮忙。", 13),
        ("<think>十</think>\n<answer>10</answer>", 8),
    ):
        assert len(tokenizer.encode(text).ids) == num_tokens
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_words_of_the_bilingual_task_leave_the_arithmetic_model_as_it_was(read_model: ReadModel) -> None:
    assert "words" not in read_model("tiny").model_dump()
    assert read_model("tiny_bilingual").model_dump()["words"] == "bilingual"
