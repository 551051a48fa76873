"""Tests of the health callback: its actions, the same on every rank and after a resume."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r1exp.health.settings import HealthSettings, Rule

ROOT = Path(__file__).parents[2]
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow  # torch


def rule(action: str, **values: Any) -> Rule:
    given = {"metric": "kl", "above": 1.0, "window": 1, "advice": "raise beta", **values}
    return Rule.model_validate({**given, "action": action})


def no_alert(*values: Any) -> None:
    del values


def log(callback: Any, step: int, row: dict[str, Any], *, is_first: bool = True) -> Any:
    """Pass a row to the callback as a trainer does, and return the control object it changed."""
    state = transformers.TrainerState(global_step=step, is_world_process_zero=is_first)
    control = transformers.TrainerControl()
    callback.on_log(args=None, state=state, control=control, logs=row)
    return control


@pytest.mark.parametrize(
    ("action", "saves", "stops"),
    [
        pytest.param("warn", False, False, id="warn"),
        pytest.param("save", True, False, id="save"),
        pytest.param("stop", True, True, id="stop"),
    ],
)
def test_a_broken_rule_takes_its_action(
    action: str, saves: bool, stops: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from r1exp.health.callback import HealthCallback

    alerts: list[Any] = []
    settings = HealthSettings(rules={"kl_high": rule(action)})
    callback = HealthCallback(settings, tmp_path, lambda *values: alerts.append(values))
    healthy = log(callback, 1, {"kl": 0.5})
    assert not (healthy.should_save or healthy.should_training_stop or (tmp_path / "health.jsonl").exists())
    control = log(callback, 2, {"kl": 1.5})
    assert (control.should_save, control.should_training_stop) == (saves, stops)
    assert (callback.stopped is not None) == stops
    sentence = "kl_high: kl 1.5 is above 1 at step 2; raise beta"
    assert json.loads((tmp_path / "health.jsonl").read_text()) == {
        "step": 2,
        "rule": "kl_high",
        "metric": "kl",
        "value": 1.5,
        "bound": 1.0,
        "action": action,
        "sentence": sentence,
    }
    assert sentence in capsys.readouterr().err
    assert alerts == [("kl_high", sentence, "error" if stops else "warn", 2)]


def test_other_ranks_act_but_report_nothing(tmp_path: Path) -> None:
    from r1exp.health.callback import HealthCallback

    callback = HealthCallback(HealthSettings(rules={"kl_high": rule("stop")}), tmp_path, no_alert)
    assert log(callback, 1, {"kl": 2.0}, is_first=False).should_training_stop
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_step_removes_the_reports_after_its_checkpoint(tmp_path: Path) -> None:
    from r1exp.health.callback import HealthCallback

    settings = HealthSettings(rules={"kl_high": rule("warn")})
    first = HealthCallback(settings, tmp_path, no_alert)
    for step, kl in enumerate([2.0, 0.5, 2.0], 1):
        log(first, step, {"kl": kl})
        if step == 2:
            checkpoint = tmp_path / "checkpoints" / "checkpoint-2"
            checkpoint.mkdir(parents=True)
            state = transformers.TrainerState(global_step=2, is_world_process_zero=True)
            arguments = transformers.TrainingArguments(output_dir=str(checkpoint.parent), report_to="none")
            first.on_save(args=arguments, state=state, control=transformers.TrainerControl())
    second = HealthCallback(settings, tmp_path, no_alert)
    second.resume(checkpoint)
    log(second, 3, {"kl": 2.0})
    reported = [json.loads(line)["step"] for line in (tmp_path / "health.jsonl").read_text().splitlines()]
    assert reported == [1, 3]


RANK = """
import os, sys
from pathlib import Path
import torch, transformers
from r1exp.health.callback import HealthCallback
from r1exp.health.settings import HealthSettings, Rule

rank = int(os.environ["RANK"])
torch.distributed.init_process_group("gloo", f"file://{sys.argv[2]}/meet", rank=rank, world_size=2)
rule = Rule(metric="step_time", above=1.0, window=1, action="stop", advice="wait")
callback = HealthCallback(HealthSettings(rules={"slow": rule}), Path(sys.argv[2]), lambda *values: None)
state = transformers.TrainerState(global_step=1, is_world_process_zero=rank == 0)
for seconds in sys.argv[1].split():
    control = transformers.TrainerControl()
    callback.on_log(args=None, state=state, control=control, logs={"step_time": float(seconds)})
    print("stops" if control.should_training_stop else "goes on")
torch.distributed.destroy_process_group()
"""


def test_both_ranks_follow_the_decision_of_rank_0(tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, seconds, str(tmp_path)],
            env={**os.environ, "RANK": str(rank), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank, seconds in enumerate(["0.5 2.0", "2.0 0.5"])
    ]
    printed = [process.communicate(timeout=120)[0].split("\n")[-3:-1] for process in ranks]
    assert printed == [["goes on", "stops"]] * 2


def test_a_step_stopped_by_a_rule_stays_stopped_when_it_is_resumed(tmp_path: Path) -> None:
    from r1exp.health.callback import HealthCallback

    settings = HealthSettings(rules={"kl_high": rule("stop")})
    first = HealthCallback(settings, tmp_path, no_alert)
    log(first, 1, {"kl": 2.0})
    checkpoint = tmp_path / "checkpoints" / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    state = transformers.TrainerState(global_step=1, is_world_process_zero=True)
    arguments = transformers.TrainingArguments(output_dir=str(checkpoint.parent), report_to="none")
    first.on_save(arguments, state, transformers.TrainerControl())
    # Killed here, before its status was written.
    second = HealthCallback(settings, tmp_path, no_alert)
    second.resume(checkpoint)
    assert second.stopped == first.stopped
