"""Steps that are forked compute the same digits as steps in fresh processes, and see what changes in between."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.files import read_json
from r1exp.launcher.fork_client import VARIABLE, fork_servers

LINE = [
    "debug=fast", "tracking=none", "launcher=ddp", "launcher.num_processes=2", "launcher.device=cpu", "evaluation.before=false",
    "dataset.num_train=100",
]  # fmt: skip
REWARD = """
def length(completions, **kwargs):
    return [{value} for _ in completions]
"""


def statuses(run: Path) -> dict[str, Any]:
    return {path.parent.name: read_json(path) for path in sorted(run.glob("steps/*/status.json"))}


@pytest.mark.slow
def test_forked_ranks_make_the_same_artifacts_as_fresh_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "off")
    assert main([*LINE, "paths.run=fresh", "paths.store=one"]) == 0
    monkeypatch.delenv(VARIABLE)
    assert main([*LINE, "paths.run=forked", "paths.store=two"]) == 0
    fresh, forked = statuses(tmp_path / "fresh"), statuses(tmp_path / "forked")
    assert [status["state"] for status in forked.values()] == ["done"] * len(forked)
    assert {name: status["artifact"] for name, status in forked.items()} == {
        name: status["artifact"] for name, status in fresh.items()
    }
    assert "torchrun" not in (tmp_path / "forked/steps/01-sft/log.txt").read_text()


@pytest.mark.slow
def test_a_reward_file_that_changes_between_two_members_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    line = [
        "stage=rl", "debug=fast", "tracking=none", "launcher=local", "evaluation.before=false", "evaluation.after=false",
        "dataset.num_train=100",
        '+rewards.own={kind: "own_reward:length", weight: 0.0}',
    ]  # fmt: skip
    found = []
    with fork_servers():
        for number, value in enumerate((1.0, 2.0)):
            (tmp_path / "own_reward.py").write_text(REWARD.format(value=value))
            run = [sys.executable, "-m", "r1exp", *line, f"paths.run=run-{number}"]
            assert subprocess.run(run, check=False).returncode == 0
            rows = (tmp_path / f"run-{number}/steps/01-grpo/metrics.jsonl").read_text()
            found.append(f'"rewards/own/mean": {value}' in rows)
    assert found == [True, True]
