"""The completions that a training step keeps, and several trackers at once, in real training."""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from r1exp.__main__ import main
from r1exp.model.tiny import build_tiny
from r1exp.paths import StepPaths
from r1exp.stage.run_stage import run_stage
from r1exp.stage.step import Step
from r1exp.tracking.metrics import MetricsFile

pytestmark = pytest.mark.slow

SHORT = [
    "stage=rl", "rewards=open_r1", "max_steps=4", "trainer.save_steps=2", "trainer.logging_steps=1", "dataset.num_train=40",
    "max_completion_length=20", "algorithm.prompts_per_step=4", "num_generations=4", "model.rows_per_device.rl=16",
    "completions.per_step=32", "algorithm.minibatches=1",
]  # fmt: skip
TRACKERS = ("trackio", "tensorboard", "mlflow")


def kept(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Return optimizer step -> the completions that were kept of it."""
    return {
        step: [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        for step, path in StepPaths(folder).all_completions().items()
    }


def assert_rows_agree_with_metrics(folder: Path, minibatches: int = 1) -> None:
    """With a sample as large as the generation batch, its means are the logged metrics."""
    logged = {row["step"]: row for row in MetricsFile(StepPaths(folder).metrics).rows() if "reward" in row}
    found = kept(folder)
    assert list(found) == list(range(1, 5, minibatches))
    for step, rows in found.items():
        assert len(rows) == 16 * minibatches
        assert {row["step"] for row in rows} == {step}
        assert len({row["prompt"] for row in rows}) == 4 * minibatches
        metrics = logged[step]
        assert fmean(row["reward"] for row in rows) == pytest.approx(metrics["reward"], abs=1e-6)
        assert fmean(row["tokens"] for row in rows) == pytest.approx(metrics["completions/mean_length"])
        assert fmean(row["cut"] for row in rows) == pytest.approx(metrics["completions/clipped_ratio"])
        for name in rows[0]["rewards"]:
            mean = fmean(row["rewards"][name] for row in rows)
            assert mean == pytest.approx(metrics[f"rewards/{name}/mean"], abs=1e-6)
        assert all(isinstance(row["advantage"], float) for row in rows)


@pytest.mark.parametrize(("algorithm", "minibatches"), [("ppo", 1), ("rloo", 1), ("dr_grpo", 2)])
def test_the_kept_completions_agree_with_the_logged_metrics(
    algorithm: str, minibatches: int, frozen: Callable[..., Step], tmp_path: Path
) -> None:
    overrides = [
        *SHORT, f"algorithm={algorithm}", f"algorithm.minibatches={minibatches}", "tracking=none", "trainer.save_strategy=no",
    ]  # fmt: skip
    step = frozen(*overrides, model=str(tmp_path / "model"))
    build_tiny(step.config.model, tmp_path / "model")
    run_stage(step, tmp_path / "step")
    assert_rows_agree_with_metrics(tmp_path / "step", minibatches)


@pytest.mark.parametrize(
    ("overrides", "name", "keys"),
    [
        pytest.param(
            ["stage=evaluate", "evaluation.num_problems=8", "evaluation.samples=2"],
            "evaluation",
            {
                "suite",
                "problem",
                "prompt",
                "answer",
                "mode",
                "completion",
                "read",
                "how",
                "correct",
                "tokens",
                "cut",
            },
            id="evaluate",
        ),
        pytest.param(
            ["stage=sample", "stage.num_problems=8", "stage.samples=2"],
            "samples",
            {
                "problem",
                "prompt",
                "answer",
                "completion",
                "read",
                "how",
                "correct",
                "reward",
                "tokens",
                "cut",
            },
            id="sample",
        ),
    ],
)
def test_a_step_that_only_generates_keeps_completions_of_a_few_problems(
    overrides: list[str], name: str, keys: set[str], frozen: Callable[..., Step], tmp_path: Path
) -> None:
    step = frozen(*overrides, "tracking=none", "completions.per_step=7", model=str(tmp_path / "model"))
    build_tiny(step.config.model, tmp_path / "model")
    run_stage(step, tmp_path / "step")
    text = (tmp_path / "step" / "completions" / f"{name}.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.split("\n")[:-1]]
    assert 4 <= len(rows) <= 7
    assert all(row.keys() == keys for row in rows)


@pytest.mark.integration
@pytest.mark.skipif(
    any(find_spec(name) is None for name in TRACKERS), reason="trackers are missing; type: make trackers"
)
def test_a_resumed_step_writes_no_row_twice_to_any_of_four_trackers_and_the_same_completions(
    frozen: Callable[..., Step],
    wandb_records: Callable[[Path], list[Record]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.tracking.readers import read_mlflow, read_tensorboard, read_trackio

    monkeypatch.chdir(tmp_path)
    project = f"p-{tmp_path.name}-{tmp_path.parent.name}"
    chosen = [
        "tracking=[wandb,trackio,tensorboard,mlflow]",
        "tracking.mode=offline",
        f"tracking.project={project}",
    ]
    step = frozen(*SHORT, *chosen, "health.rules.kl_high.above=-1", "health.rules.kl_high.window=3",
                  model=str(tmp_path / "model"))  # fmt: skip
    build_tiny(step.config.model, tmp_path / "model")
    folder = tmp_path / "step"
    run_stage(step, folder)
    first = {path.name: path.read_text() for path in StepPaths(folder).all_completions().values()}
    shutil.rmtree(folder / "artifact")
    shutil.rmtree(folder / "checkpoints" / "checkpoint-4")
    run_stage(step, folder)
    assert {path.name: path.read_text() for path in StepPaths(folder).all_completions().values()} == first
    assert_rows_agree_with_metrics(folder)
    rewards = [
        (row["step"], row["reward"])
        for row in MetricsFile(StepPaths(folder).metrics).rows()
        if "reward" in row
    ]
    assert [number for number, _ in rewards] == [1, 2, 3, 4]
    some = kept(folder)[3][0]["completion"]
    for seen in (read_tensorboard(folder), read_trackio(project), read_mlflow(project)):
        assert seen.rows["reward"] == [(number, pytest.approx(value)) for number, value in rewards]
        assert seen.num_runs == 1
        assert json.dumps(some, ensure_ascii=False)[1:8] in seen.completions or some[:3] in seen.completions
        assert seen.alerts.count("kl_high: kl") == 1
    records = wandb_records(folder)
    assert logged_rewards(records) == [(number, pytest.approx(value)) for number, value in rewards]
    assert len({record.run.run_id for record in records if record.HasField("run")}) == 1
    assert [record.alert.title for record in records if record.HasField("alert")] == ["kl_high"]
    assert len(list(folder.glob("wandb/offline-run-*/files/media/table/*.json"))) == 4


def logged_rewards(records: list[Record]) -> list[tuple[int, float]]:
    """Return the step and the reward of every row in W&B files."""
    return [
        (record.history.step.num, json.loads(item.value_json))
        for record in records
        if record.HasField("history")
        for item in record.history.item
        if (item.key or "/".join(item.nested_key)) == "reward"
    ]


def test_two_ranks_keep_completions_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = [*SHORT, "model.rows_per_device.rl=8", "tracking=none", "launcher=ddp", "launcher.num_processes=2",
                 "launcher.threads_per_process=1", "evaluation.before=false", "evaluation.after=false",
                 "paths.run=run"]  # fmt: skip
    assert main(overrides) == 0
    assert_rows_agree_with_metrics(tmp_path / "run" / "steps" / "01-grpo")
