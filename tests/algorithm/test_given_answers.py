"""The losses of SimPO and KTO against their papers' formulas in float64, and what their settings refuse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from r1exp.algorithm.kto_trainer import Kto
from r1exp.algorithm.simpo_trainer import Simpo
from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.plan.steps import planned_steps

Compose = Callable[..., Experiment]
BETA, MARGIN = 0.7, 0.4
ANSWERS = [("What is 1 + 2?", "3", "4 or 5"), ("What is 2 + 2? Think.", "It is 4", "5")]


def turns(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def arguments(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder), "bf16": False, "use_cpu": True, "report_to": "none", "beta": BETA,
        "gradient_checkpointing": False, "logging_steps": 1, "disable_tqdm": True,
    } | changes  # fmt: skip


def moved(policy: torch.nn.Module) -> torch.nn.Module:
    """Return the policy in float64, away from its reference."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return policy.double().train()


def log_prob(model: torch.nn.Module, ids: torch.Tensor, answer: torch.Tensor) -> float:
    """Return log pi of the tokens that `answer` marks, given those before them."""
    with torch.no_grad():
        logps = model(input_ids=ids[None]).logits[0].double().log_softmax(-1)
    return float(sum(logps[t - 1, ids[t]] for t in range(1, len(ids)) if answer[t]))


def rows_of(batch: dict[str, Any], prefix: str = "") -> list[tuple[torch.Tensor, torch.Tensor]]:
    kept = batch[f"{prefix}attention_mask"].bool()
    ids, answers = batch[f"{prefix}input_ids"], batch[f"{prefix}completion_mask"]
    return [(ids[row][kept[row]], answers[row][kept[row]]) for row in range(len(ids))]


@pytest.mark.slow
def test_simpo_is_the_papers_loss_without_a_reference(
    tiny: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    rows = [
        {"prompt": turns("user", q), "chosen": turns("assistant", good), "rejected": turns("assistant", bad)}
        for q, good, bad in ANSWERS
    ]
    policy = AutoModelForCausalLM.from_pretrained(tiny)
    args = Simpo.config(
        **arguments(tmp_path, loss_type=["sigmoid_norm"], per_device_train_batch_size=2, disable_dropout=True)
    )
    trainer = Simpo(
        model=policy, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        good_checkpoint=lambda most: None, margin=MARGIN,
    )  # fmt: skip
    assert trainer.ref_model is None
    moved(policy)
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    loss = trainer.compute_loss(policy, batch).item()

    means = [BETA * log_prob(policy, ids, marks) / int(marks.sum()) for ids, marks in rows_of(batch)]
    differences = np.array(means[:2]) - np.array(means[2:])
    assert loss == pytest.approx(float(np.mean(np.log1p(np.exp(-(differences - MARGIN))))), abs=1e-6)
    logged = trainer._metrics["train"]
    assert logged["rewards/margins"] == [pytest.approx(differences.mean(), abs=1e-6)]
    assert logged["rewards/chosen"] == [pytest.approx(np.mean(means[:2]), abs=1e-6)]


@pytest.mark.slow
def test_kto_is_the_papers_loss_with_answers_of_other_prompts(
    tiny: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    labelled = [
        (q, text, label) for q, *both in ANSWERS for text, label in zip(both, (True, False), strict=True)
    ]
    rows = [
        {"prompt": turns("user", q), "completion": turns("assistant", text), "label": label}
        for q, text, label in labelled
    ]
    policy = AutoModelForCausalLM.from_pretrained(tiny)
    args = Kto.config(**arguments(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2))
    trainer = Kto(
        model=policy, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        good_checkpoint=lambda most: None,
    )  # fmt: skip
    answers, others = (trainer.train_dataset[name] for name in ("completion_ids", "KL_completion_ids"))
    assert others[:] == [*answers[-1:], *answers[:-1]]  # rotated within the optimizer step, not within a pass
    moved(policy)
    trainer.ref_model.double()
    reference = AutoModelForCausalLM.from_pretrained(tiny).double()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    loss = trainer.compute_loss(policy, batch).item()

    def ratios(prefix: str) -> np.ndarray:
        pairs = [(log_prob(policy, *row), log_prob(reference, *row)) for row in rows_of(batch, prefix)]
        return np.array([ours - theirs for ours, theirs in pairs])

    point = max(0.0, ratios("KL_").mean())
    sign = np.where(np.array([bool(label) for label in batch["label"]]), 1.0, -1.0)
    values = 1.0 / (1.0 + np.exp(-BETA * sign * (ratios("") - point)))
    assert loss == pytest.approx(float(np.mean(1.0 - values)), abs=1e-6)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["algorithm=kto"], "algorithm=kto learns from answers that are labelled", id="no labels"),
        pytest.param(["algorithm=kto", "dataset=preference", "beta=0"], "beta=0 makes the loss", id="constant"),
        pytest.param(
            ["algorithm=kto", "dataset=preference", "trainer.desirable_weight=-1"], "at least 0", id="weights"
        ),
        pytest.param(
            ["algorithm=kto", "dataset=preference", "++trainer.train_sampling_strategy=random"], "fixed order", id="order"
        ),
        pytest.param(["algorithm=simpo", "dataset=preference", "beta=0"], "beta=0 scales", id="no scale"),
        pytest.param(
            ["algorithm=simpo", "dataset=preference", "trainer.loss_type=[sigmoid]"], "use algorithm=dpo", id="loss"
        ),
        pytest.param(
            ["algorithm=simpo", "dataset=preference", "++trainer.sync_ref_model=true"], "no reference", id="reference"
        ),
        pytest.param(["algorithm=cispo", "trainer.epsilon=0.3"], "is not read by trainer.loss_type=cispo", id="cispo"),
        pytest.param(["algorithm=sapo", "trainer.epsilon_high=0.3"], "which does not clip", id="sapo"),
        pytest.param(["algorithm=cispo", "trainer.epsilon_high=null"], "type trainer.epsilon_high=5.0", id="cut"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(words: list[str], says: str, compose_line: Compose) -> None:
    with pytest.raises(Refused, match=says):
        compose_line("stage=rl", *words)


def test_a_pass_of_kto_has_a_second_answer_to_pair_with(compose_line: Compose, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(f'{{"prompt": "{n}?", "chosen": "a", "rejected": "b"}}\n' for n in range(20)))
    words = [
        "stage=rl",
        "algorithm=kto",
        "dataset=preference",
        "dataset.test_share=0",
        f"dataset.path={file}",
    ]
    (step,) = planned_steps(compose_line(*words, "algorithm.answers_per_step=40", "evaluation.before=false"))
    assert step.batch is not None and step.batch.num_rows == 40  # each pair is two answers
    with pytest.raises(Refused, match="compares at least 2"):
        planned_steps(compose_line(*words, "algorithm.answers_per_step=1", "evaluation.before=false"))
