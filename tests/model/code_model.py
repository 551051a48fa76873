"""Writes a model with code of its own, in the layout of the hub: a tiny Llama under a `model_type` that transformers does not know."""

import json
import shutil
from pathlib import Path

_CONFIGURATION = """
from transformers import LlamaConfig


class ToyConfig(LlamaConfig):
    model_type = "toy"
"""
_PARTS = """
SCALE = 1.0
"""
# Says in the file that TOY_RAN names which part of the code has run.
_MODELING = """
import os

from transformers import LlamaForCausalLM, LlamaModel

from .configuration_toy import ToyConfig
from .parts_toy import SCALE

if "TOY_RAN" in os.environ:
    with open(os.environ["TOY_RAN"], "a") as file:
        file.write("modeling\\n")


class ToyModel(LlamaModel):
    config_class = ToyConfig


class ToyForCausalLM(LlamaForCausalLM):
    config_class = ToyConfig

    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)
"""
_TOKENIZATION = """
from transformers import PreTrainedTokenizerFast


class ToyTokenizer(PreTrainedTokenizerFast):
    pass
"""
CODE = {
    "configuration_toy.py": _CONFIGURATION,
    "modeling_toy.py": _MODELING,
    "parts_toy.py": _PARTS,
    "tokenization_toy.py": _TOKENIZATION,
}
AUTO_MAP = {
    "AutoConfig": "configuration_toy.ToyConfig",
    "AutoModel": "modeling_toy.ToyModel",
    "AutoModelForCausalLM": "modeling_toy.ToyForCausalLM",
}


def change(file: Path, **values: object) -> None:
    """Write values into a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def code_model(tiny: Path, folder: Path) -> Path:
    """Return `folder` with the weights of the tiny model and code for them."""
    shutil.copytree(tiny, folder)
    change(folder / "config.json", model_type="toy", architectures=["ToyForCausalLM"], auto_map=AUTO_MAP)
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="ToyTokenizer",
        auto_map={"AutoTokenizer": [None, "tokenization_toy.ToyTokenizer"]},
    )
    for name, text in CODE.items():
        (folder / name).write_text(text)
    return folder
