"""Every logged metric that the completions decide is counted again from the completions that a step keeps.

Not decided by them, and tested elsewhere: losses, entropy, kl, ratios and clip ratios (tests/algorithm), values and returns (test_gae.py),
num_tokens (it counts tokens of prompts and of discarded completions too), seconds.
"""

import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.model.tiny import build_tiny
from r1exp.paths import StepPaths
from r1exp.stage.run_stage import run_stage
from r1exp.stage.step import Step
from r1exp.tracking.metrics import MetricsFile

pytestmark = pytest.mark.slow

SHORT = [
    "stage=rl", "rewards=open_r1", "max_steps=4", "trainer.logging_steps=1", "dataset.num_train=40", "beta=0", "tracking=none",
    "max_completion_length=20", "algorithm.prompts_per_step=4", "num_generations=4", "model.rows_per_device.rl=16",
    "completions.per_step=64", "algorithm.minibatches=2", "trainer.save_strategy=no",
]  # fmt: skip
Row = dict[str, Any]


def kept(folder: Path) -> dict[int, list[Row]]:
    return {
        step: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for step, path in StepPaths(folder).all_completions().items()
    }


def groups_of(rows: list[Row]) -> list[list[Row]]:
    return [list(group) for _, group in groupby(rows, key=lambda row: (row["problem"], row["prompt"]))]


def is_flat(group: list[Row]) -> bool:
    rewards = [row["reward"] for row in group]
    return max(rewards) - min(rewards) < 1e-6


def imputed(groups: list[list[Row]], name: str) -> list[float]:
    """Return a reward's scores as training uses them: an abstention has the mean of its group."""
    values: list[float] = []
    for group in groups:
        known = [row["rewards"][name] for row in group if row["rewards"][name] is not None]
        values += [
            fmean(known) if row["rewards"][name] is None else row["rewards"][name] for row in group if known
        ]
    return values


def deviations(groups: list[list[Row]], values: list[float]) -> list[float]:
    rest = iter(values)
    found = []
    for group in groups:
        own = [next(rest) for _ in group]
        found += [value - fmean(own) for value in own]
    return found


def recounted(rows: list[Row], weights: dict[str, float]) -> dict[str, float]:
    """Return the metrics that the completions decide."""
    groups, tokens = groups_of(rows), [row["tokens"] for row in rows]
    ended = [row["tokens"] for row in rows if not row["cut"]] or [0]
    rewards = [row["reward"] for row in rows]
    found = {
        "reward": fmean(rewards),
        "reward_std": stdev(rewards),
        "groups_with_signal": fmean(not is_flat(group) for group in groups),
        "completions/mean_length": fmean(tokens),
        "completions/min_length": min(tokens),
        "completions/max_length": max(tokens),
        "completions/clipped_ratio": fmean(row["cut"] for row in rows),
        "completions/mean_terminated_length": fmean(ended),
        "completions/min_terminated_length": min(ended),
        "completions/max_terminated_length": max(ended),
    }
    total = deviations(groups, rewards)
    for name, weight in weights.items():
        scores = imputed(groups, name)
        found[f"rewards/{name}/mean"], found[f"rewards/{name}/std"] = fmean(scores), stdev(scores)
        found[f"rewards/{name}/abstained"] = fmean(row["rewards"][name] is None for row in rows)
        if sum(value**2 for value in total) > 1e-9 and len(scores) == len(rows):
            part = deviations(groups, [weight * score for score in scores])
            share = sum(a * b for a, b in zip(part, total, strict=True)) / sum(value**2 for value in total)
            found[f"rewards/{name}/variance_share"] = share
    return found


def expected_advantages(algorithm: str, group: list[Row]) -> list[float]:
    rewards = [row["reward"] for row in group]
    if algorithm == "rloo":
        return [r - (sum(rewards) - r) / (len(rewards) - 1) for r in rewards]
    scale = 1.0 if algorithm == "dr_grpo" else stdev(rewards) + 1e-4
    return [(r - fmean(rewards)) / scale for r in rewards]


def check(folder: Path, algorithm: str, weights: dict[str, float]) -> tuple[int, int]:
    """Compare the rows of metrics with the kept completions; return the groups of the steps, and those with signal."""
    logged = {row["step"]: row for row in MetricsFile(StepPaths(folder).metrics).rows() if "reward" in row}
    found = kept(folder)
    assert list(found) == list(logged) == [1, 3]  # two optimizer steps for each generation batch
    num_groups = num_signals = 0
    for step, rows in found.items():
        metrics, groups = logged[step], groups_of(rows)
        assert [len(group) for group in groups] == [4] * 8
        num_groups += len(groups)
        num_signals += sum(not is_flat(group) for group in groups)
        if not metrics.get("dynamic_sampling/rounds"):
            for name, value in recounted(rows, weights).items():
                assert metrics[name] == pytest.approx(value, abs=2e-5), (step, name)
        else:
            # Logged is the first round, before the choice; kept is the batch that is trained on.
            assert metrics["dynamic_sampling/flat_completions"] == 4 * sum(map(is_flat, groups))
            assert sum(map(is_flat, groups)) <= round(8 * (1 - metrics["groups_with_signal"]))
        if algorithm == "ppo":
            # The mean over a completion's tokens; over all tokens, the advantages have the mean 0.
            tokens = sum(row["tokens"] for row in rows)
            assert abs(sum(row["advantage"] * row["tokens"] for row in rows) / tokens) < 1e-5
            assert max(abs(row["advantage"]) for row in rows) > 0.0
        else:
            for group in groups:
                if not is_flat(group):
                    advantages = [row["advantage"] for row in group]
                    assert advantages == pytest.approx(expected_advantages(algorithm, group), abs=2e-4)
                else:
                    assert [row["advantage"] for row in group] == pytest.approx([0.0] * 4, abs=1e-2)
    return num_groups, num_signals


@pytest.mark.parametrize("algorithm", ["grpo", "dr_grpo", "dapo", "gspo", "rloo", "ppo"])
def test_logged_metrics_are_those_of_the_kept_completions(
    algorithm: str, frozen: Callable[..., Step], tmp_path: Path
) -> None:
    step = frozen(*SHORT, f"algorithm={algorithm}", model=str(tmp_path / "model"))
    build_tiny(step.config.model, tmp_path / "model")
    run_stage(step, tmp_path / "step")
    assert step.config.rewards is not None
    weights = {name: reward.weight for name, reward in step.config.rewards.items()}
    check(tmp_path / "step", algorithm, weights)


@pytest.mark.parametrize("algorithm", ["grpo", "dapo", "ppo"])
def test_two_ranks_log_the_metrics_of_the_kept_completions(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ranks = ["launcher=ddp", "launcher.num_processes=2", "paths.run=run"]
    off = ["evaluation.before=false", "evaluation.after=false"]
    assert main([*SHORT, *ranks, *off, f"algorithm={algorithm}"]) == 0
    [folder] = (tmp_path / "run" / "steps").iterdir()
    config = json.loads((folder / "step.json").read_text())["config"]
    weights = {name: reward["weight"] for name, reward in config["rewards"].items()}
    num_groups, num_signals = check(folder, algorithm, weights)
    [entry] = json.loads((tmp_path / "run" / "summary.json").read_text())["steps"].values()
    assert entry["groups"]["total"] == num_groups  # of two generation batches, not of four optimizer steps
    if algorithm != "dapo":
        assert entry["groups"]["with_signal"] == num_signals
