"""Members that run side by side: their shares of the machine, their results, and how a signal ends them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from r1exp.__main__ import main
from r1exp.runner.member import share_of

SHORT = ["stage=sft", "tracking=none", "evaluation.before=false", "evaluation.after=false", "debug=fast"]
SWEEP = ["-m", "hydra.sweep.dir=sweep", *SHORT]


@pytest.mark.parametrize(
    ("items", "shares"),
    [
        pytest.param([0, 1, 2, 3], [[0, 1], [2, 3]], id="equal"),
        pytest.param([0, 1, 2, 3, 4], [[0, 1], [2, 3]], id="one is left over"),
        pytest.param([0], [[0], [0], [0]], id="fewer than members"),
        pytest.param([0, 1], [[0], [1], [0]], id="in turn"),
    ],
)
def test_the_machine_is_shared(items: list[int], shares: list[list[int]]) -> None:
    assert [share_of(items, number, len(shares)) for number in range(len(shares))] == shares


@pytest.mark.parametrize(
    ("line", "part"),
    [
        pytest.param(["sweep.parallel=0", "seed=1,2"], "greater than 0", id="none at once"),
        pytest.param(
            ["sweep.parallel=2", "seed=1,2", "launcher.device=cuda"], "type sweep.parallel=1", id="too few GPUs"
        ),
    ],
)  # fmt: skip
def test_a_number_of_members_that_cannot_run_is_refused(
    line: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert main([*SWEEP, *line]) == 2
    assert part in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_failed_member_does_not_stop_the_others(tmp_path: Path) -> None:
    # A file in the place of the second member's step, so that its folder cannot be made.
    (tmp_path / "sweep" / "1").mkdir(parents=True)
    (tmp_path / "sweep" / "1" / "steps").write_text("")
    line = [*SWEEP, "sweep.parallel=2", "seed=1,2"]
    done = subprocess.run(
        [sys.executable, "-m", "r1exp", *line],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    rows = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [(row["member"], row["exit_code"]) for row in rows] == [("0", 0), ("1", 3)], done.stderr
    assert done.returncode == 3
    assert "member 0 seed=1: done in" in done.stdout
    assert "member 1 seed=2: " in done.stdout
    assert "Traceback" not in done.stderr + (tmp_path / "sweep" / "1" / "run.log").read_text()


@pytest.mark.slow
def test_a_signal_saves_and_ends_the_running_members_and_starts_no_further_one(tmp_path: Path) -> None:
    line = ["-m", "hydra.sweep.dir=sweep", *SHORT[:-1], "sweep.parallel=2", "seed=1,2,3", "max_steps=3000"]
    with subprocess.Popen(
        [sys.executable, "-m", "r1exp", *line],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        until = time.monotonic() + 120
        logs = [
            tmp_path / "sweep" / str(number) / "steps" / "01-sft" / "metrics.jsonl" for number in range(2)
        ]
        while not all(log.exists() and log.stat().st_size for log in logs) and time.monotonic() < until:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        errors = process.stderr.read()
        assert process.wait(timeout=120) == 130, errors
    assert "save a checkpoint" in errors
    rows = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [(row["member"], row["state"]) for row in rows] == [("0", "interrupted"), ("1", "interrupted")]
    assert not (tmp_path / "sweep" / "2").exists()
    assert list((tmp_path / "sweep" / "0" / "steps" / "01-sft" / "checkpoints").glob("checkpoint-*"))


@pytest.mark.slow
def test_a_second_signal_ends_the_members_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    line = ["-m", "hydra.sweep.dir=sweep", *SHORT[:-1], "sweep.parallel=2", "seed=1,2", "max_steps=3000"]
    with subprocess.Popen(
        [sys.executable, "-m", "r1exp", *line], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 120
        logs = [
            tmp_path / "sweep" / str(number) / "steps" / "01-sft" / "metrics.jsonl" for number in range(2)
        ]
        while not all(log.exists() and log.stat().st_size for log in logs) and time.monotonic() < until:
            time.sleep(0.2)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        errors = process.stderr.read()
        assert process.wait(timeout=120) == 130, errors
    assert len(started) >= 4, "two members, and a rank of each"
    psutil.wait_procs(started, timeout=60)
    assert not [each for each in started if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    rows = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [(row["member"], row["state"]) for row in rows] == [("0", "interrupted"), ("1", "interrupted")]
