"""When one of two ranks fails, the message names the rank and the reason."""

from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.launcher.fork_client import VARIABLE
from r1exp.launcher.kills import Kills
from r1exp.launcher.torchrun import RootCause, root_cause
from r1exp.paths import StepPaths
from r1exp.step.failure import Failure, failure_of, first_failure, write_failure
from r1exp.step.status import read_status

OVERRIDES = [
    "stage=sft", "max_steps=4", "stage.rows_per_step=4", "dataset.num_train=40", "tracking=none",
    "launcher=ddp", "launcher.num_processes=2", "launcher.device=cpu", "launcher.threads_per_process=1",
    "evaluation.before=false", "evaluation.after=false", "paths.run=run", "paths.store=store",
]  # fmt: skip
REPORT = """
E1120 15:41:52.928000 26013 site-packages/torch/distributed/elastic/multiprocessing/api.py:1002] failed
Root Cause (first observed failure):
[0]:
  time      : 2026-11-20_15:41:52
  host      : localhost
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 26057)
  error_file: <N/A>
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "reason", "shown"),
    [
        pytest.param("raise", "ValueError: broken on purpose", "in on_step_end", id="an exception"),
        pytest.param("kill", "it was killed by SIGKILL", "the last output of rank 1", id="kill -9"),
        pytest.param("import", "peft", "from peft import", id="an import error"),
    ],
)
def test_the_first_failed_rank_and_its_traceback_are_shown(
    how: str,
    reason: str,
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).with_name("failing")), prepend=":")
    monkeypatch.setenv("FAIL_AS", how)
    monkeypatch.setenv(VARIABLE, "off")  # sitecustomize is imported when Python starts
    assert main(OVERRIDES) == 3
    terminal = capsys.readouterr().err
    status = read_status(tmp_path / "run" / "steps" / "01-sft")
    assert status is not None
    assert (status.state, status.rank) == ("failed", 1)
    assert status.reason is not None
    assert status.reason.startswith("rank 1 failed first:")
    assert reason in status.reason
    assert reason in terminal
    assert shown in terminal
    assert "torch/distributed/elastic" not in terminal
    assert StepPaths(tmp_path / "run" / "steps" / "01-sft").log(1).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "code"), [pytest.param(8, 3, id="shorter"), pytest.param(300, 0, id="longer")]
)
def test_a_rank_waits_for_another_one_for_the_seconds_of_ddp_timeout(
    seconds: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).with_name("failing")), prepend=":")
    monkeypatch.setenv("FAIL_AS", "sleep13")
    monkeypatch.setenv(VARIABLE, "off")
    assert main([*OVERRIDES, f"trainer.ddp_timeout={seconds}"]) == code
    status = read_status(tmp_path / "run" / "steps" / "01-sft")
    assert status is not None
    assert (status.reason is None) == (code == 0)
    if status.reason is not None:
        assert status.rank == 0  # the one that waited
        assert "type a larger trainer.ddp_timeout=SECONDS" in status.reason


def test_a_watchdog_that_ended_a_rank_is_explained(tmp_path: Path) -> None:
    log = (
        "[rank0]:[E ProcessGroupNCCL.cpp:616] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, "
        "OpType=ALLREDUCE, Timeout(ms)=600000) ran for 600029 milliseconds before timing out.\n"
    )
    found = first_failure(
        tmp_path, log + REPORT.format(code=-6).replace("rank      : 1", "rank      : 0"), Kills()
    )
    assert found is not None
    assert "killed by SIGABRT" in found.reason
    assert "trainer.ddp_timeout=SECONDS" in found.reason


def lost_peer(rank: int) -> Failure:
    return failure_of(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"), rank)


def test_a_rank_that_lost_the_connection_to_another_is_not_the_cause(tmp_path: Path) -> None:
    write_failure(tmp_path, lost_peer(0))
    write_failure(tmp_path, failure_of(ValueError("broken"), 1))
    first = first_failure(tmp_path, REPORT.format(code=1), Kills())
    assert first is not None
    assert (first.rank, first.reason) == (1, "ValueError: broken")
    assert first.traceback is not None


def test_a_killed_rank_is_the_cause_even_if_only_another_rank_reports_an_error(tmp_path: Path) -> None:
    write_failure(tmp_path, lost_peer(0))
    first = first_failure(tmp_path, REPORT.format(code=-9), Kills())
    assert first is not None
    assert (first.rank, first.reason.partition(";")[0]) == (1, "it was killed by SIGKILL")


def test_the_report_of_a_machine_that_only_ended_its_ranks_is_ignored() -> None:
    assert root_cause(
        REPORT.format(code=-15).replace("rank      : 1", "rank      : 2") + REPORT.format(code=-9)
    ) == RootCause(1, -9, 26057)
    assert root_cause("no report of torchrun") is None
