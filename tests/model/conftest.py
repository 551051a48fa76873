"""Fixtures of the model tests: the settings of conf/model, and one tiny model on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from r1exp.model.settings import ModelSettings
from r1exp.model.tiny import build_tiny

CONF = Path(__file__).parents[2] / "conf" / "model"


ReadModel = Callable[..., ModelSettings]


@pytest.fixture(scope="session")
def read_model() -> ReadModel:
    """Return a function that reads the settings of a YAML by its name, with the given keys replaced."""

    def read(name: str, **changes: Any) -> ModelSettings:
        values = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
        assert isinstance(values, dict)
        return ModelSettings.model_validate_json(json.dumps({**values, **changes}))

    return read


@pytest.fixture(scope="session")
def tiny_folder(read_model: ReadModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model and its tokenizer, built as `model=tiny` builds them."""
    return build_tiny(read_model("tiny"), tmp_path_factory.mktemp("tiny") / "model")
