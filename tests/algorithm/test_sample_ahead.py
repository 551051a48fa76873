"""Training on completions that another process has sampled with older weights."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM

from r1exp.algorithm.trainers import Grpo
from r1exp.errors import StepFailed
from r1exp.model.settings import ModelSettings
from r1exp.rollout.ahead import Ahead, Decoding

pytestmark = pytest.mark.slow

CONF = Path(__file__).parents[2] / "conf" / "model" / "tiny.yaml"
Weights = Callable[[torch.nn.Module], torch.Tensor]


@pytest.fixture
def ahead(tiny: Path) -> Iterator[Callable[[Grpo], Ahead]]:
    """Return a function that starts the helper of a trainer."""
    settings = ModelSettings.model_validate_json(json.dumps(OmegaConf.to_container(OmegaConf.load(CONF))))
    started = []

    def start(trainer: Grpo, number: int = 1) -> Ahead:
        tokenizer = trainer.processing_class
        decoding = Decoding(
            temperature=1.0, top_p=1.0, top_k=0, max_tokens=6, end_ids=[tokenizer.eos_token_id],
            pad_id=tokenizer.pad_token_id, rows=3,
        )  # fmt: skip
        helper = Ahead(str(tiny), settings, decoding)
        trainer.sample_ahead(helper, number)
        started.append(helper)
        return helper

    yield start
    for helper in started:
        helper.close()


def recorded(trainer: Any) -> list[dict[str, Any]]:
    """Have the trainer keep each scored batch."""
    batches: list[dict[str, Any]] = []
    theirs = trainer._generate_and_score_completions

    def scored(inputs: Any) -> dict[str, Any]:
        batches.append(theirs(inputs))
        return batches[-1]

    trainer._generate_and_score_completions = scored
    return batches


def logps_of(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    width = batch["completion_ids"].size(1)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits[:, -width - 1 : -1]
    return torch.log_softmax(logits, dim=-1).gather(-1, batch["completion_ids"].unsqueeze(-1)).squeeze(-1)


def test_two_batches_come_from_the_start_weights_and_each_later_one_from_those_one_batch_older(
    grpo: Callable[..., Grpo],
    ahead: Callable[..., Ahead],
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = grpo(max_steps=4)
    ahead(trainer)
    batches = recorded(trainer)
    versions = [AutoModelForCausalLM.from_pretrained(tiny).state_dict()]
    theirs = trainer._maybe_log_save_evaluate

    def after_step(*args: Any, **kwargs: Any) -> None:
        versions.append({name: weight.clone() for name, weight in trainer.model.state_dict().items()})
        theirs(*args, **kwargs)

    monkeypatch.setattr(trainer, "_maybe_log_save_evaluate", after_step)
    trainer.train()
    assert len(batches) == 4
    model = AutoModelForCausalLM.from_pretrained(tiny)
    for index, batch in enumerate(batches):
        mask = batch["completion_mask"].bool()
        model.load_state_dict(versions[max(0, index - 1)])
        sampler = logps_of(model, batch)[mask]
        torch.testing.assert_close(batch["old_per_token_logps"][mask], sampler, atol=1e-4, rtol=1e-4)
        if index:
            model.load_state_dict(versions[index])
            assert (logps_of(model, batch)[mask] - sampler).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["grpo", "ppo"])
def test_every_run_ends_with_the_same_weights_also_a_resumed_one(
    grpo: Callable[..., Grpo], ppo: Callable[..., Grpo], ahead: Callable[..., Ahead], weights: Weights, tmp_path: Path, kind: str
) -> None:  # fmt: skip
    build = grpo if kind == "grpo" else ppo
    # Twelve prompts: an epoch has three generation batches (of four prompts), and the run more than one epoch.
    settings: dict[str, Any] = {"max_steps": 8, "save_strategy": "steps", "save_steps": 5}
    ends = []
    for resume in (None, None, str(tmp_path / "checkpoints" / "checkpoint-5")):
        trainer = build(**settings)
        ahead(trainer)
        trainer.train(resume_from_checkpoint=resume)
        ends.append(weights(trainer.model))
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])
    by_turns = build(**settings)
    by_turns.train()
    assert not torch.equal(ends[0], weights(by_turns.model))


def test_a_helper_that_is_killed_ends_the_step_with_what_to_type(
    grpo: Callable[..., Grpo], ahead: Callable[..., Ahead]
) -> None:
    trainer = grpo(max_steps=3)
    helper = ahead(trainer)
    helper._running().kill()
    with pytest.raises(StepFailed, match=r"has ended \(exit code -9\).*rollout\.staleness=0"):
        trainer.train()


def test_the_log_probabilities_of_the_helper_are_finite_and_one_for_each_token(
    grpo: Callable[..., Grpo], ahead: Callable[..., Ahead]
) -> None:
    trainer = grpo()
    helper = ahead(trainer)
    helper.request(0, [[5, 6, 7], [8]], 3, trainer.model.state_dict())
    helper.request(1, [[5, 6, 7], [8]], 3, trainer.model.state_dict())
    first, second = helper.result(0), helper.result(1)
    assert first == second
    for tokens, logps in zip(first.completions, first.logps, strict=True):
        assert len(tokens) == len(logps) <= 6
        assert all(math.isfinite(number) and number <= 0.0 for number in logps)
