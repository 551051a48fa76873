"""Tests of a folder of adapters as `model.path`: found, refused, and merged once into a plain model."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.errors import Refused
from r1exp.model.locate import locate
from r1exp.model.preview import first_prompt
from r1exp.model.settings import ModelSettings
from r1exp.model.shapes import shape_of

ReadModel = Callable[..., ModelSettings]


def adapter_folder(folder: Path, base: str, weights: bytes | None = b"") -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    if weights is not None:
        (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def test_a_folder_of_adapters_has_the_sizes_and_prompts_of_its_base(
    tmp_path: Path, tiny_folder: Path, read_model: ReadModel
) -> None:
    folder = adapter_folder(tmp_path / "adapters", str(tiny_folder))
    settings = read_model("hf", path=str(folder))
    assert locate(settings) == folder
    shape = shape_of(settings)
    assert shape is not None and shape.hidden_size == 128
    assert first_prompt(settings, [{"role": "user", "content": "3 + 4?"}]).text == "3 + 4?\n"


@pytest.mark.parametrize(
    ("base", "weights", "message"),
    [
        pytest.param("", b"", "does not name the model", id="no base"),
        pytest.param("BASE", None, "no adapters", id="no weights"),
        pytest.param("EMPTY", b"", "no config.json", id="a base that is no model"),
    ],
)
def test_adapters_that_cannot_be_used_are_refused(
    base: str, weights: bytes | None, message: str, tmp_path: Path, tiny_folder: Path, read_model: ReadModel
) -> None:
    places = {"BASE": str(tiny_folder), "EMPTY": str(tmp_path)}
    folder = adapter_folder(tmp_path / "adapters", places.get(base, base), weights)
    with pytest.raises(Refused, match=message):
        locate(read_model("hf", path=str(folder)))


@pytest.mark.slow
def test_adapters_are_merged_into_a_plain_model_by_a_process_of_its_own(
    tmp_path: Path, tiny_folder: Path, read_model: ReadModel
) -> None:
    import torch
    from peft import get_peft_model

    from r1exp.model.load import load_policy, load_tokenizer, peft_config

    lora = {"r": 4, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear"}
    settings = read_model("tiny", lora=lora)
    adapted = get_peft_model(load_policy(str(tiny_folder), settings), peft_config(settings))
    torch.manual_seed(0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(tmp_path / "adapters")
    ids_bt = torch.arange(10, 40)[None]
    with torch.inference_mode():
        expected = adapted(input_ids=ids_bt).logits
    command = [
        sys.executable,
        "-m",
        "r1exp.model.merge",
        str(tmp_path / "adapters"),
        str(tmp_path / "merged"),
    ]
    assert subprocess.run(command, check=False).returncode == 0
    merged = load_policy(str(tmp_path / "merged"), settings)
    with torch.inference_mode():
        torch.testing.assert_close(merged(input_ids=ids_bt).logits, expected, rtol=1e-4, atol=1e-5)
    assert load_tokenizer(str(tmp_path / "merged"), settings).eos_token == "<|end|>"
    shutil.rmtree(tmp_path / "merged")
    (tmp_path / "adapters" / "adapter_model.safetensors").write_bytes(b"broken")
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "cannot be added to their base model" in ended.stderr.splitlines()[-1]
    assert not (tmp_path / "merged").exists()
