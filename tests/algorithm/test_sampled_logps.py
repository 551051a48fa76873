"""Log-probabilities and values taken from sampling are those of a scoring pass, or a scoring pass is made."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig

from r1exp.algorithm.ppo_trainer import Ppo
from r1exp.algorithm.trainers import Grpo

pytestmark = pytest.mark.slow

LORA = LoraConfig(r=2, target_modules="all-linear")


def sampled(trainer: Any) -> dict[str, Any]:
    """Return a new generation batch of training."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    batch: dict[str, Any] = trainer._generate_and_score_completions(
        list(next(iter(trainer.get_train_dataloader())))
    )
    return batch


@pytest.mark.parametrize("lora", [pytest.param(None, id="all weights"), pytest.param(LORA, id="LoRA")])
@pytest.mark.parametrize("critic", ["separate", "shared", "zero"])
def test_sampling_gives_what_a_scoring_pass_gives(ppo: Callable[..., Ppo], critic: str, lora: Any) -> None:
    found = {}
    for takes in (False, True):
        trainer = ppo(critic, lora=lora, sampled_logps=takes, max_completion_length=12, temperature=0.7)
        torch.manual_seed(3)
        with torch.no_grad():  # policy and critic are not those of the start
            for weight in trainer.model.parameters():
                if weight.requires_grad:
                    weight.add_(0.1 * torch.randn_like(weight))
        torch.manual_seed(5)
        found[takes] = sampled(trainer)
        assert (trainer._recorded is not None) is takes
    assert torch.equal(found[True]["completion_ids"], found[False]["completion_ids"])
    names = ["old_per_token_logps", "ref_per_token_logps", "values", "advantages", "returns"]
    mask = found[True]["completion_mask"] == 1
    for name in names:
        ours, theirs = (found[takes][name] * mask for takes in (True, False))
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    assert (found[True]["old_per_token_logps"] - found[True]["ref_per_token_logps"]).abs().max() > 1e-2


def test_grpo_takes_them_with_several_minibatches(grpo: Callable[..., Grpo]) -> None:
    found, passes = {}, {}
    for takes in (False, True):
        passes[takes] = 0
        trainer = grpo(extra={"sampled_logps": takes}, steps_per_generation=2, per_device_train_batch_size=4)

        def count(*_: Any, takes: bool = takes) -> None:
            passes[takes] += 1

        torch.manual_seed(5)
        handle = trainer.model.model.register_forward_hook(count)
        found[takes] = sampled(trainer)
        handle.remove()
    torch.testing.assert_close(
        found[True]["old_per_token_logps"], found[False]["old_per_token_logps"], atol=1e-5, rtol=1e-5
    )
    assert passes[False] - passes[True] == 2


def test_a_scoring_pass_is_made_where_it_differs(ppo: Callable[..., Ppo]) -> None:
    trainer = ppo("zero", sampled_logps=True)
    assert trainer.scoring_differs() is None
    trainer._ahead = SimpleNamespace()  # type: ignore[assignment]
    assert trainer.scoring_differs() == "another engine samples"
    trainer._ahead = None
    attention = trainer.model.model.layers[0].self_attn
    attention.attention_dropout = 0.1
    assert trainer.scoring_differs() == "a dropout is on"
    attention.attention_dropout = 0.0
    trainer.model.to(torch.bfloat16)
    assert trainer.scoring_differs() == "weights or computation are not float32"
    batch = sampled(trainer)
    assert trainer._recorded is None
    assert batch["old_per_token_logps"].shape == batch["completion_ids"].shape


@pytest.mark.parametrize("short", [False, "sorted"])
def test_minibatches_are_other_rows_in_each_pass_over_a_batch(ppo: Callable[..., Ppo], short: Any) -> None:
    seen: list[list[list[int]]] = []

    class Watched(Ppo):
        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
            seen.append(sorted(inputs["completion_ids"].tolist()))
            return super()._compute_loss(model, inputs)

    trainer = ppo("zero", trainer=Watched, short_passes=short, num_iterations=2, max_steps=4)
    trainer.train()
    trim = [[row[: len(row)] for row in rows] for rows in seen]
    flat = [sorted(tuple(token for token in row if token) for row in rows) for rows in trim]
    assert sorted(flat[0] + flat[1]) == sorted(flat[2] + flat[3])  # the same rows
    assert flat[0] != flat[2]
