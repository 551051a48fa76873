import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from r1exp.algorithm.base import TRACKED_ZERO
from r1exp.algorithm.guards import FOLDER
from r1exp.algorithm.trainers import Grpo
from r1exp.errors import StepFailed

pytestmark = pytest.mark.slow


class Infinite(Grpo):
    """Has an infinite loss from the second optimizer step on."""

    def _compute_loss(self, model: torch.nn.Module, inputs: dict) -> torch.Tensor:
        loss = super()._compute_loss(model, inputs)
        return loss * float("inf") if self.state.global_step == 1 else loss


class Exploding(Grpo):
    """Has a finite loss with a gradient that is not finite: sqrt at 0."""

    def _compute_loss(self, model: torch.nn.Module, inputs: dict) -> torch.Tensor:
        weight = next(model.parameters())
        return super()._compute_loss(model, inputs) + ((weight * 0.0).sum() ** 2).sqrt()


class FarFromTheReference(Grpo):
    """Gives a token a reference log-probability so high that its KL is infinite."""

    def _generate_and_score_completions(self, inputs: list) -> dict:
        batch = super()._generate_and_score_completions(inputs)
        batch["ref_per_token_logps"][:, 0] += 200.0
        return batch


def test_an_infinite_kl_without_a_penalty_changes_no_weight(
    grpo: Callable[..., Grpo], weights: Callable[[torch.nn.Module], torch.Tensor]
) -> None:
    far = grpo(trainer=FarFromTheReference, beta=TRACKED_ZERO)
    far.train()
    plain = grpo(beta=TRACKED_ZERO)  # seeds the samples anew
    plain.train()
    assert far.state.log_history[0]["kl"] == math.inf
    assert torch.equal(weights(far.model), weights(plain.model))


@pytest.mark.parametrize(
    ("trainer", "step", "what"),
    [(Infinite, 2, "the loss is"), (Exploding, 1, "the norm of the gradient is nan")],
)
def test_a_loss_or_gradient_that_is_not_finite_stops_the_step_and_saves_the_batch(
    grpo: Callable[..., Grpo], tmp_path: Path, trainer: type[Grpo], step: int, what: str
) -> None:
    stopped = grpo(trainer=trainer)
    with pytest.raises(StepFailed, match=f"at optimizer step {step} {what}") as raised:
        stopped.train()
    kept = torch.load(tmp_path / FOLDER / f"step-{step}-rank-0.pt", weights_only=True)
    assert kept["batches"][0]["completion_ids"].shape[0] == 8
    assert "there is no good checkpoint" in str(raised.value)
    assert all(torch.isfinite(weight).all() for weight in stopped.model.parameters())


def test_the_message_names_the_last_good_checkpoint(grpo: Callable[..., Grpo]) -> None:
    stopped = grpo(trainer=Infinite)
    stopped._good_checkpoint = lambda most: Path(f"checkpoints/checkpoint-{most}")
    with pytest.raises(StepFailed, match="the last good checkpoint is checkpoints/checkpoint-0"):
        stopped.train()


def test_a_first_optimizer_step_that_changes_no_weight_is_an_error(grpo: Callable[..., Grpo]) -> None:
    stuck = grpo(max_grad_norm=1.0)
    elsewhere = [torch.nn.Parameter(torch.zeros(2))]
    stuck.optimizer = torch.optim.AdamW(elsewhere, lr=1e-2)  # has none of the model's weights
    with pytest.raises(StepFailed, match="changed no trainable weight"):
        stuck.train()


def test_an_update_too_small_for_bfloat16_is_an_error(grpo: Callable[..., Grpo]) -> None:
    rounded = grpo(learning_rate=1e-12)
    rounded.model.to(torch.bfloat16)
    with pytest.raises(StepFailed, match=r"use model\.dtype=float32"):
        rounded.train()


def test_a_first_step_without_a_gradient_is_not_an_error(grpo: Callable[..., Grpo]) -> None:
    flat = grpo(reward=lambda completion_ids, **_: [1.0] * len(completion_ids), max_steps=1)
    flat.train()
    assert not flat._has_moved
