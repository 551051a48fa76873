"""Tests of the model settings: valid YAML files, and refusals with their messages."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from pydantic import ValidationError

from r1exp.model.settings import LoraSettings, ModelSettings, ModelShape

CONF = Path(__file__).parents[2] / "conf" / "model"
SIZES: dict[str, Any] = {"learning_rate": {"sft": 1e-3, "rl": 1e-4}, "rows_per_device": {"sft": 4, "rl": 8}}
SHAPE: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 16,
    "vocab_size": 32,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_yaml_is_a_model_that_validates(path: Path) -> None:
    config = OmegaConf.load(path)
    if OmegaConf.is_missing(config, "path"):
        config.path = "someone/some-model"
    written = json.dumps(OmegaConf.to_container(config, resolve=True))
    assert ModelSettings.model_validate_json(written).lora.r == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"kind": "pretrained"}, "needs model.path", id="pretrained without a path"),
        pytest.param(
            {"kind": "pretrained", "path": "a/b", "init_seed": 1},
            "has its own weights",
            id="seeded hub model",
        ),
        pytest.param({"kind": "tiny", "init_seed": 0}, "model.shape", id="tiny without a shape"),
        pytest.param({"kind": "tiny", "shape": SHAPE}, "init_seed", id="tiny without a seed"),
        pytest.param(
            {"kind": "tiny", "init_seed": 0, "shape": {**SHAPE, "qkv_bias": True}}, "Llama", id="biased tiny"
        ),
        pytest.param({"kind": "pretrained", "path": "  "}, "blank", id="blank path"),
        pytest.param({"kind": "pretrained", "path": "a/b", "dtype": "fp32"}, "bfloat16", id="unknown dtype"),
    ],
)
def test_an_incomplete_or_contradictory_model_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelSettings.model_validate({**SIZES, **change})


def test_key_heads_must_divide_query_heads() -> None:
    with pytest.raises(ValidationError, match="num_key_value_heads=3"):
        ModelShape.model_validate({**SHAPE, "num_key_value_heads": 3})


def test_head_size_follows_from_hidden_size_unless_given() -> None:
    assert ModelShape.model_validate(SHAPE).features_per_head == 4
    assert ModelShape.model_validate({**SHAPE, "head_dim": 6}).features_per_head == 6
    with pytest.raises(ValidationError, match="head_dim"):
        ModelShape.model_validate({**SHAPE, "hidden_size": 9})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"r": -1}, id="negative rank"),
        pytest.param({"dropout": 1.5}, id="dropout above one"),
        pytest.param({"target_modules": ()}, id="no target modules"),
        pytest.param({"alpha": 0}, id="scale of zero"),
    ],
)
def test_adapters_that_could_not_train_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LoraSettings.model_validate(change)


@pytest.mark.parametrize(
    "change",
    [{"alpha": 16}, {"dropout": 0.1}, {"target_modules": ("q_proj",)}],
    ids=["alpha", "dropout", "target_modules"],
)
def test_settings_of_adapters_without_a_rank_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(
        ValidationError, match=rf"model\.lora\.{next(iter(change))}=.* no effect without adapters"
    ):
        LoraSettings.model_validate(change)
    assert LoraSettings.model_validate({"r": 4, **change}).r == 4


def test_settings_that_are_off_are_in_no_key() -> None:
    values = ModelSettings.model_validate(
        {**SIZES, "kind": "tiny", "init_seed": 0, "shape": SHAPE}
    ).model_dump()
    assert not {"quantization", "chat_template_kwargs"} & set(values)
