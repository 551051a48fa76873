"""Evaluations during training: they change no weight, are exact under resume and on two ranks, and the best model is kept."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from r1exp.__main__ import main
from r1exp.files import hash_of_folder
from r1exp.model.tiny import build_tiny
from r1exp.registry import load
from r1exp.stage.step import Step

pytestmark = pytest.mark.slow
Freeze = Callable[..., Step]
SHAPE = (
    "model.shape.hidden_size=32", "model.shape.num_hidden_layers=1", "model.shape.num_attention_heads=2",
    "model.shape.num_key_value_heads=2", "model.shape.intermediate_size=32",
)  # fmt: skip
SMALL = (
    *SHAPE, "tracking=none", "launcher.threads_per_process=1", "launcher.device=cpu", "dataset.num_train=200",
    "max_completion_length=12", "completions.per_step=0", "evaluation.num_validation=9", "evaluation.samples=1",
)  # fmt: skip
RL = ("stage=rl", "num_generations=2", "algorithm.prompts_per_step=4", "learning_rate=1e-2")
LINES = {
    "grpo": RL,
    "ppo": (*RL, "algorithm=ppo", "algorithm.minibatches=2"),
    "LoRA": (*RL, "model.lora.r=2"),
    "sft": ("stage=sft", "stage.rows_per_step=8", "trainer.warmup_steps=0"),
}


def trained(frozen: Freeze, folder: Path, *overrides: str) -> Path:
    """Train a step in this process, in a folder that may have checkpoints, and return the folder."""
    step = frozen(*SMALL, "max_steps=4", "trainer.save_steps=2", "trainer.logging_steps=1", *overrides)
    model = folder.parent / "model"
    if not model.exists():
        build_tiny(step.config.model, model)
    folder.mkdir(exist_ok=True)
    assert step.config.stage is not None
    load(step.config.stage.work)(step.model_copy(update={"model_path": str(model)}), folder)
    return folder


def evaluations(folder: Path) -> list[dict[str, Any]]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if any(name.startswith("eval/") for name in row)]


def kept(folder: Path) -> Mapping[str, Any]:
    return dict(json.loads((folder / "kept.json").read_text()))


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_weights_are_the_same_bit_for_bit_with_and_without_evaluations(
    frozen: Freeze, tmp_path: Path, line: tuple[str, ...]
) -> None:
    without = trained(frozen, tmp_path / "without", *line)
    evaluated = trained(frozen, tmp_path / "evaluated", *line, "evaluation.every=1")
    assert hash_of_folder(without / "artifact") == hash_of_folder(evaluated / "artifact")
    assert evaluations(without) == []
    assert [row["step"] for row in evaluations(evaluated)] == [0, 1, 2, 3, 4]
    low, value, high = (
        evaluations(evaluated)[0][f"eval/validation/greedy/{key}"] for key in ("low", "accuracy", "high")
    )
    assert 0.0 <= low <= value <= high <= 1.0


BEST = ("evaluation.every=1", "evaluation.keep_best=greedy")


def scripted(monkeypatch: pytest.MonkeyPatch, accuracies: list[float]) -> list[int]:
    """Let evaluations find these accuracies, by optimizer step; return the steps at which they were made."""
    from r1exp.stage.validation import Validation

    made: list[int] = []

    def metrics(self: Validation, now: int) -> dict[str, dict[str, float]]:
        made.append(now)
        value = accuracies[now]
        return {"greedy": {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 9}}

    monkeypatch.setattr(Validation, "_metrics", metrics)
    return made


@pytest.mark.parametrize("line", [LINES["ppo"], LINES["LoRA"]], ids=["ppo", "LoRA"])
def test_the_best_model_is_the_artifact_and_a_resumed_step_keeps_the_same(
    frozen: Freeze, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]
) -> None:
    made = scripted(monkeypatch, [0.2, 0.8, 0.8, 0.5, 0.6])
    whole = trained(frozen, tmp_path / "whole", *line, *BEST)
    assert {name: kept(whole)[name] for name in ("optimizer_step", "of", "value", "metric")} == {
        "optimizer_step": 1, "of": 4, "value": 0.8, "metric": "eval/validation/greedy/accuracy",
    }  # fmt: skip
    # The model of that step, and not that of another one: a training of one optimizer step has the same.
    early = trained(frozen, tmp_path / "early", *line, "trainer.lr_scheduler_type=constant", "max_steps=1")
    late = trained(frozen, tmp_path / "late", *line, *BEST, "trainer.lr_scheduler_type=constant")
    weights = [load_file(folder / "artifact" / "model.safetensors") for folder in (early, late)]
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])
    # As after a kill at optimizer step 3: the checkpoint of the second has the model of the first.
    resumed = tmp_path / "resumed"
    shutil.copytree(whole / "checkpoints", resumed / "checkpoints")
    shutil.copy(whole / "metrics.jsonl", resumed)
    shutil.rmtree(resumed / "checkpoints" / "checkpoint-4")
    made.clear()
    trained(frozen, resumed, *line, *BEST)
    assert made == [3, 4]  # neither is evaluated twice
    assert kept(resumed) == kept(whole)
    assert hash_of_folder(resumed / "artifact") == hash_of_folder(whole / "artifact")
    assert [row["step"] for row in evaluations(resumed)] == [0, 1, 2, 3, 4]


def test_a_rule_ends_training_early_and_the_model_is_the_artifact(
    frozen: Freeze, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scripted(monkeypatch, [0.2, 0.8, 0.7, 0.7, 0.9])
    rule = ("health.rules.no_improvement.action=finish", "health.rules.no_improvement.patience=2")
    folder = trained(frozen, tmp_path / "step", *LINES["grpo"], "evaluation.every=1", *rule)
    found = kept(folder)
    assert (found["optimizer_step"], found["of"], found["planned"]) == (3, 3, 4)
    assert "has not exceeded 0.8 in 2 evaluations" in found["ended_by"]
    assert (folder / "artifact" / "model.safetensors").exists()
    # Killed before the artifact was there: not trained further.
    first = hash_of_folder(folder / "artifact")
    shutil.rmtree(folder / "artifact")
    made.clear()
    trained(frozen, folder, *LINES["grpo"], "evaluation.every=1", *rule)
    assert made == [] and kept(folder) == found
    assert hash_of_folder(folder / "artifact") == first


def test_kl_control_starts_where_a_rule_adapts(frozen: Freeze, tmp_path: Path) -> None:
    rule = (
        "health.rules.kl_high.action=adapt",
        "health.rules.kl_high.above=1e-9",
        "health.rules.kl_high.window=2",
    )
    rows = []
    for name, more in (("plain", ()), ("adapted", rule)):
        folder = trained(frozen, tmp_path / name, *LINES["grpo"], "beta=0.1", "max_steps=6", *more)
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        rows.append([row["beta"] for row in map(json.loads, lines) if "beta" in row])
    plain, adapted = rows
    assert len({*plain}) == 1
    assert adapted[:3] == plain[:3] and adapted[5] > adapted[4] > plain[4]
    assert "beta is adapted from 0.1 on" in (tmp_path / "adapted" / "health.jsonl").read_text()


def test_two_ranks_share_the_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = [*SMALL, *LINES["sft"], "max_steps=1", "evaluation.before=false", "evaluation.after=false", *BEST]
    accuracies = []
    for number in (1, 2):
        more = ["launcher=ddp", "launcher.num_processes=2"] if number == 2 else []
        assert main([*line, *more, f"paths.run=run-{number}", f"paths.store=store-{number}"]) == 0
        (first, _) = evaluations(tmp_path / f"run-{number}" / "steps" / "01-sft")
        accuracies.append({name: value for name, value in first.items() if "greedy" in name})
    assert accuracies[0] == accuracies[1]  # of 9 problems, which are dealt out as 5 and 4
    assert json.loads((tmp_path / "run-2" / "summary.json").read_text())["steps"]["sft"]["kept"]["of"] == 1
