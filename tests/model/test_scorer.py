from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from r1exp.errors import Refused
from r1exp.model.scorer import open_reward_model
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context
from r1exp.rewards.committee import Committee
from r1exp.rewards.reward_model import RewardModel

REPLIES = ["<think>3 + 4 = 7</think>\n<answer>7</answer>", "7", "", "<answer>8</answer>" * 30]


def classifier(tiny: Path, folder: Path, num_labels: int) -> str:
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=num_labels)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def reward_model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return classifier(tiny_folder, tmp_path_factory.mktemp("scorer"), num_labels=1)


def scored(model: str, **settings: Any) -> list:
    committee = Committee(
        {"liked": RewardModel(model=model, **settings)}, openers={"reward_model": open_reward_model}
    )
    problems = [Problem("a", "What is 3 + 4?")] * len(REPLIES)
    return committee.score(problems, [Completion(text, 3) for text in REPLIES], Context())["liked"]


def test_scores_do_not_depend_on_the_batch_size(reward_model: str) -> None:
    together = scored(reward_model, batch_size=4)
    assert together == pytest.approx(scored(reward_model, batch_size=1), abs=1e-5)
    assert len(set(together)) == len(REPLIES)


def test_the_score_is_the_logit_of_the_model(reward_model: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    model = AutoModelForSequenceClassification.from_pretrained(reward_model)
    chat = [{"role": "user", "content": "What is 3 + 4?"}, {"role": "assistant", "content": REPLIES[0]}]
    text = tokenizer.apply_chat_template(chat, tokenize=False) if tokenizer.chat_template else None
    inputs = tokenizer(
        text or f"What is 3 + 4?\n{REPLIES[0]}", return_tensors="pt", add_special_tokens=not text
    )
    with torch.inference_mode():
        logit = model(input_ids=inputs["input_ids"]).logits.item()
    assert scored(reward_model, normalization="none")[0] == pytest.approx(logit, abs=1e-5)


def test_a_model_without_a_trained_score_head_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(Refused, match="its scores would be random"):
        scored(str(tiny_folder))


def test_a_classifier_with_two_labels_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="has 2 labels"):
        scored(classifier(tiny_folder, tmp_path / "two", num_labels=2))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be loaded"):
        scored(str(tmp_path / "nothing"))
