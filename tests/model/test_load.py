"""Tests of loading and saving: artifacts are plain models, and files that are not a model are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.errors import Refused
from r1exp.model.settings import ModelSettings

pytestmark = pytest.mark.slow  # torch
ReadModel = Callable[..., ModelSettings]


def truncate_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])


def change_config(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return change


def write(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(truncate_weights, "not fully covered", id="truncated weights"),
        pytest.param(
            lambda folder: (folder / "model.safetensors").unlink(), "no file named", id="no weights"
        ),
        pytest.param(change_config(num_hidden_layers=3), "weights are missing", id="one layer missing"),
        pytest.param(change_config(intermediate_size=256), "no model can be loaded", id="other sizes"),
        pytest.param(write("config.json", '{"model_'), "valid JSON", id="half a config"),
        pytest.param(write("config.json", '{"model_type": "t5"}'), "T5Config", id="an encoder and decoder"),
    ],
)
def test_a_broken_model_is_refused(
    damage: Callable[[Path], None], message: str, tiny_folder: Path, tmp_path: Path, read_model: ReadModel
) -> None:
    from r1exp.model.load import load_policy

    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    damage(folder)
    with pytest.raises(Refused, match=message) as refused:
        load_policy(str(folder), read_model("tiny"))
    assert f"model.path={folder}" in str(refused.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(write("tokenizer.json", '{"mo'), "no tokenizer can be loaded", id="half a tokenizer"),
        pytest.param(write("tokenizer.json", "{}"), "no tokenizer can be loaded", id="an empty tokenizer"),
        pytest.param(
            write("tokenizer_config.json", "{}"), "no end-of-sequence token", id="no end-of-sequence token"
        ),
    ],
)
def test_a_broken_tokenizer_is_refused(
    damage: Callable[[Path], None], message: str, tiny_folder: Path, tmp_path: Path, read_model: ReadModel
) -> None:
    from r1exp.model.load import load_tokenizer

    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    damage(folder)
    with pytest.raises(Refused, match=message):
        load_tokenizer(str(folder), read_model("tiny"))


def test_an_unknown_attention_implementation_is_refused(tiny_folder: Path, read_model: ReadModel) -> None:
    from r1exp.model.load import load_policy

    with pytest.raises(Refused, match="sdpaa"):
        load_policy(str(tiny_folder), read_model("tiny", attn_implementation="sdpaa"))


def test_a_tokenizer_without_template_or_padding_gets_both(
    tiny_folder: Path, tmp_path: Path, read_model: ReadModel
) -> None:
    from r1exp.model.load import load_tokenizer
    from r1exp.prompt.chat import CHAT_TEMPLATE

    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": None}))
    tokenizer = load_tokenizer(str(folder), read_model("tiny"))
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert tokenizer.pad_token == tokenizer.eos_token == "<|end|>"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_have_the_configured_dtype(dtype: str, tiny_folder: Path, read_model: ReadModel) -> None:
    import torch

    from r1exp.model.load import load_policy

    model = load_policy(str(tiny_folder), read_model("tiny", dtype=dtype))
    assert {weight.dtype for weight in model.parameters()} == {getattr(torch, dtype)}


def test_adapters_are_merged_into_a_plain_model_with_the_same_outputs(
    tiny_folder: Path, tmp_path: Path, read_model: ReadModel
) -> None:
    import torch
    from peft import get_peft_model

    from r1exp.model.load import load_policy, load_tokenizer, peft_config, save_artifact

    settings = read_model("tiny", lora={"r": 4, "alpha": 8})
    adapted = get_peft_model(load_policy(str(tiny_folder), settings), peft_config(settings))
    torch.manual_seed(0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:  # initialized to zero, so that the adapter would have no effect
            torch.nn.init.normal_(weight, std=0.1)
    token_ids = torch.arange(2, 34).reshape(2, 16)
    expected = adapted(token_ids).logits.detach()
    save_artifact(adapted, load_tokenizer(str(tiny_folder), settings), tmp_path / "artifact")
    assert not list((tmp_path / "artifact").glob("adapter*"))
    plain = load_policy(str(tmp_path / "artifact"), settings)
    untouched = load_policy(str(tiny_folder), settings)
    assert torch.allclose(plain(token_ids).logits, expected, atol=1e-5)
    assert not torch.allclose(untouched(token_ids).logits, expected, atol=1e-2)


def test_rank_zero_gives_no_adapters(read_model: ReadModel) -> None:
    from r1exp.model.load import peft_config

    assert peft_config(read_model("tiny")) is None


def test_an_artifact_that_fails_to_save_leaves_no_files(
    tiny_folder: Path, tmp_path: Path, read_model: ReadModel
) -> None:
    from r1exp.model.load import load_policy, save_artifact

    class NoRoom:
        def save_pretrained(self, folder: Path) -> None:
            raise OSError(28, "No space left on device")

    model = load_policy(str(tiny_folder), read_model("tiny"))
    with pytest.raises(OSError, match="No space left"):
        save_artifact(model, NoRoom(), tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []
