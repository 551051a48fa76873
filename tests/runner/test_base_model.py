"""The start models that a step store keeps."""

from pathlib import Path

from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.files import hash_of_file
from r1exp.model.settings import ModelSettings
from r1exp.model.tiny import build_tiny
from r1exp.runner.base_model import base_model
from r1exp.runner.store import StepStore


def tiny(words: str) -> ModelSettings:
    with session():
        (step,) = experiment_from(["stage=sft", f"model.words={words}"]).steps
    return step.config.model


def test_tiny_models_that_differ_in_their_tokenizer_only_have_folders_of_their_own(tmp_path: Path) -> None:
    store = StepStore(tmp_path / "store")
    for words in ("arithmetic", "bilingual"):
        found = base_model(tiny(words), store)
        alone = build_tiny(tiny(words), tmp_path / words)
        assert hash_of_file(Path(found) / "tokenizer.json") == hash_of_file(alone / "tokenizer.json")
