"""A real run of a whole pipeline with two optimizer steps per step, and the files it writes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer
from wandb.proto.wandb_internal_pb2 import Record

from r1exp.__main__ import main
from r1exp.step.status import read_status

FAST = [
    "debug=fast",
    "launcher.threads_per_process=1",
    "algorithm.prompts_per_step=4",
    "model.rows_per_device.rl=32",
]
FAST += ["pipeline.steps.sft.set.stage.rows_per_step=8", "dataset.num_train=200"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of one finished run of the quickstart."""
    folder = tmp_path_factory.mktemp("quickstart")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("WANDB_API_KEY", raising=False)
        assert main([*FAST, "beta=0", "paths.run=first"]) == 0
    return folder / "first"


def content(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_summary_has_three_accuracies_with_intervals(run: Path) -> None:
    summary = content(run / "summary.json")
    for name in ("pre_sft_accuracy", "post_sft_accuracy", "post_grpo_accuracy"):
        for mode in ("sampled", "greedy"):
            score = summary[name][mode]
            assert score["n"] == 16
            assert 0.0 <= score["low"] <= score["value"] <= score["high"] <= 1.0
            assert name in (run / "report.md").read_text()
    assert list(summary["comparisons"]) == ["post_sft - pre_sft", "post_grpo - post_sft"]
    assert summary["state"] == "done"
    assert [entry["state"] for entry in summary["steps"].values()] == ["done"] * 5
    assert all(entry["seconds"] > 0 for entry in summary["steps"].values())
    groups = summary["steps"]["rl"]["groups"]
    assert groups["total"] == 2 * 4  # optimizer steps x prompts
    assert 0 <= groups["with_signal"] <= groups["total"]
    assert "groups carried signal" in (run / "report.md").read_text()


@pytest.mark.slow
def test_the_model_of_every_training_step_can_be_loaded_and_has_the_same_tokenizer(run: Path) -> None:
    text = "Tom has 3 apples. <think>1+2=3</think> 你好 🙂"
    ids = {
        tuple(AutoTokenizer.from_pretrained(run / "steps" / step / "artifact")(text)["input_ids"])
        for step in ("02-sft", "04-rl")
    }
    assert len(ids) == 1
    assert (
        AutoModelForCausalLM.from_pretrained(run / "steps" / "04-rl" / "artifact").num_parameters() > 500_000
    )


@pytest.mark.slow
def test_the_rows_of_rl_have_all_metrics_also_at_beta_zero(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "steps" / "04-rl" / "metrics.jsonl").read_text().splitlines()]
    first = next(row for row in rows if "reward" in row)
    for key in (
        "kl", "reward_std", "completions/clipped_ratio", "rewards/graded/mean", "rewards/xml_count/mean", "entropy",
        "grad_norm", "learning_rate", "groups_with_signal",
    ):  # fmt: skip
        assert key in first, key


@pytest.mark.slow
def test_wandb_has_every_row_in_one_group_and_the_accuracies(
    run: Path, wandb_records: Callable[[Path], list[Record]]
) -> None:
    everything = {path.parent: wandb_records(path.parent) for path in run.glob("**/wandb")}
    headers = [record.run for records in everything.values() for record in records if record.HasField("run")]
    assert {header.run_group for header in headers} == {run.name}
    assert sorted(header.job_type for header in headers) == ["evaluate"] * 3 + ["rl", "run", "sft"]
    keys = {
        item.key or "/".join(item.nested_key)
        for record in everything[run / "steps" / "04-rl"]
        for item in record.history.item
    }
    assert {
        "kl",
        "reward_std",
        "completions/clipped_ratio",
        "rewards/graded/mean",
        "entropy",
        "grad_norm",
    } <= keys
    summary = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in everything[run]
        for item in record.summary.update
    }
    expected = content(run / "summary.json")["post_grpo_accuracy"]["sampled"]["value"]
    assert summary["post_grpo_accuracy/sampled/value"] == expected
    config = {
        item.key for record in everything[run] if record.HasField("run") for item in record.run.config.update
    }
    assert {"rewards", "beta", "seed", "model"} <= config


@pytest.mark.slow
def test_the_same_command_reuses_every_step(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    assert main([*FAST, "beta=0", "paths.run=second", "tracking=none"]) == 0
    assert capsys.readouterr().err.count("reused from first") == 5
    first, second = (content(run.parent / name / "summary.json") for name in ("first", "second"))
    assert second["post_grpo_accuracy"] == first["post_grpo_accuracy"]
    assert main([*FAST, "beta=0.5", "paths.run=second"]) == 2
    assert "another experiment" in capsys.readouterr().err


@pytest.mark.slow
def test_members_of_a_sweep_are_complete_and_share_finished_steps(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    overrides = [*FAST, "beta=0", "name=weights", "tracking=none", "rewards.graded.weight=0,1"]
    assert main(["-m", *overrides]) == 0
    (sweep,) = run.parent.glob("runs/*/*-weights-sweep")
    summaries = [content(path) for path in sorted(sweep.glob("*/summary.json"))]
    assert [summary["state"] for summary in summaries] == ["done", "done"]
    assert [{path.name for path in member.iterdir()} >= {"manifest.json", "report.md", "steps"} for member in
            (sweep / "0", sweep / "1")] == [True, True]  # fmt: skip
    assert capsys.readouterr().err.count("[2/5] sft: reused from first") == 2
    assert [row["overrides"][-1] for row in content(sweep / "sweep.json")] == [
        "rewards.graded.weight=0", "rewards.graded.weight=1"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_member_that_fails_does_not_stop_the_others(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    overrides = [
        "stage=sft",
        "debug=fast",
        "name=rates",
        "tracking=none",
        "evaluation.before=false",
        "dataset.num_train=200",
    ]
    overrides += ["evaluation.after=false", "launcher.threads_per_process=1", "trainer.warmup_steps=0"]
    assert main(["-m", *overrides, "learning_rate=1e30,1e-3"]) == 3
    (sweep,) = run.parent.glob("runs/*/*-rates-sweep")
    broken, whole = (content(sweep / member / "summary.json") for member in ("0", "1"))
    assert (broken["state"], whole["state"]) == ("failed", "done")
    assert "not finite" in broken["steps"]["sft"]["reason"] or "is nan" in broken["steps"]["sft"]["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_run_ended_by_a_signal_is_interrupted_and_leaves_no_process(
    number: signal.Signals, tmp_path: Path
) -> None:
    parent, folder = sft_in_background(tmp_path)
    wait_for(lambda: (folder / "log.txt").exists())
    time.sleep(3)
    parent.send_signal(number)
    assert parent.wait(60) == 130
    status = read_status(folder)
    assert status is not None
    assert (status.state, (folder / "artifact").exists()) == ("interrupted", False)
    assert content(tmp_path / "run" / "summary.json")["state"] == "interrupted"
    assert workers_on(folder) == []


@pytest.mark.slow
def test_workers_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    parent, folder = sft_in_background(tmp_path)
    wait_for(lambda: workers_on(folder) != [])
    time.sleep(8)  # the worker watches its parent only after its imports
    parent.kill()
    parent.wait()
    wait_for(lambda: workers_on(folder) == [])
    assert workers_on(folder) == []


def sft_in_background(folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a long run; return its process and the folder of its step."""
    overrides = ["stage=sft", "tracking=none", "paths.run=run", "evaluation.before=false"]
    command = [sys.executable, "-m", "r1exp", *overrides]
    parent = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return parent, folder / "run" / "steps" / "01-sft"


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def workers_on(folder: Path) -> list[int]:
    """Return the ranks of a step, which hold the lock in its folder."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it has been closed
            if file.readlink() == folder / "ranks.lock":
                found.add(int(file.parts[2]))
    return sorted(found - {os.getpid()})
