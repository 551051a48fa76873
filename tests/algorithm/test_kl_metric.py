"""`kl` is k3 for every algorithm, and training is that of TRL."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from trl import RLOOConfig

from r1exp.algorithm.trainers import Grpo, Rloo

pytestmark = pytest.mark.slow


def k3(logps: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor) -> float:
    gap = reference - logps
    return float(((gap.exp() - gap - 1) * mask).sum() / mask.sum())


@pytest.mark.parametrize("corrects", [False, True])
def test_kl_is_k3_whether_or_not_the_loss_weights_it_by_the_ratio(
    grpo: Callable[..., Grpo], corrects: bool
) -> None:
    trainer = grpo(
        num_iterations=3, beta=0.1, max_steps=3, use_bias_correction_kl=corrects, learning_rate=0.1
    )
    seen: list[float] = []
    theirs = trainer._compute_loss

    def loss_of(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        with torch.no_grad():
            logps = trainer.policy_logps(inputs)
        seen.append(k3(logps, inputs["ref_per_token_logps"], inputs["completion_mask"]))
        return theirs(model, inputs)

    trainer._compute_loss = loss_of  # type: ignore[method-assign]
    trainer.train()
    rows = [row for row in trainer.state.log_history if "kl" in row]
    assert [row["kl"] for row in rows] == pytest.approx(seen, rel=1e-4, abs=1e-6)
    assert rows[-1]["kl"] > 0.01
    weighted = [row.get("kl_ratio_weighted") for row in rows]
    if corrects:
        assert weighted[0] == pytest.approx(rows[0]["kl"], abs=1e-6)  # the ratio is 1
        assert weighted[-1] < 0.9 * rows[-1]["kl"]
    else:
        assert weighted == [None] * 3


def test_kl_of_rloo_is_k3_and_its_log_ratio_has_a_name_of_its_own(grpo: Callable[..., Any]) -> None:
    trainer = grpo(trainer=rloo, beta=0.1, max_steps=3, learning_rate=0.1, steps_per_generation=1)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "kl" in row]
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert all(row["kl"] >= 0.0 for row in rows)
    assert rows[-1]["kl"] > 0.0
    assert all("kl_log_ratio" in row for row in rows)
    assert rows[-1]["kl_log_ratio"] != pytest.approx(rows[-1]["kl"], rel=1e-3)


def rloo(args: Any, **arguments: Any) -> Rloo:
    return Rloo(args=RLOOConfig(**{**SHARED, "output_dir": args.output_dir, "beta": args.beta}), **arguments)


SHARED: dict[str, Any] = {
    "max_steps": 3, "learning_rate": 0.1, "per_device_train_batch_size": 8, "num_generations": 2, "max_completion_length": 6,
    "bf16": False, "use_cpu": True, "report_to": "none", "logging_steps": 1, "disable_tqdm": True, "save_strategy": "no",
    "lr_scheduler_type": "constant", "gradient_checkpointing": False, "seed": 1, "remove_unused_columns": False,
}  # fmt: skip
