"""The threads between a run and its trackers."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1exp.errors import ExitCode, Preempted
from r1exp.tracking import trackers as module
from r1exp.tracking.trackers import Trackers, without_secrets
from tests.tracking.toys import Notes, tracked


@pytest.fixture(autouse=True)
def no_calls() -> Iterator[None]:
    Notes.calls.clear()
    yield
    Notes.calls.clear()


def test_calls_reach_the_tracker_in_order_without_what_is_no_number(tmp_path: Path) -> None:
    with Trackers({"notes": Notes()}, tracked(tmp_path)) as trackers:
        trackers.log({"step": 1, "kl": 0.5, "loss": None, "not_finite": {"loss": "nan"}}, 1)
        trackers.log_completions([{"step": 1, "completion": "4"}], 1)
        trackers.log_completions([], 2)
        trackers.alert("kl_high", "text", "warn", 1)
    assert Notes.calls == [
        ("start", "abc"),
        ("log", {"kl": 0.5, "loss": None}, 1),
        ("completions", [{"completion": "4"}], 1),
        ("alert", "kl_high", "warn", 1),
        ("finish", 0),
    ]


def test_rows_that_a_tracker_has_from_before_the_interruption_are_not_written_again(tmp_path: Path) -> None:
    with Trackers({"notes": Notes()}, tracked(tmp_path), tracked_until=2) as trackers:
        for step in (1, 2, 3):
            trackers.log({"kl": 0.5}, step)
            trackers.log_completions([{"completion": "4"}], step)
            trackers.alert("kl_high", "text", "warn", step)
    assert [call[-1] for call in Notes.calls[1:-1]] == [3, 3, 3]


@pytest.mark.parametrize("fails_at", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_a_warning_without_secrets_and_the_others_go_on(
    fails_at: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "k" * 40)
    with Trackers({"broken": Notes(fails_at=fails_at), "notes": Notes()}, tracked(tmp_path)) as trackers:
        for step in (1, 2):
            trackers.log({"kl": 0.5}, step)
    shown = capsys.readouterr().err
    assert shown.count("tracking=broken: [Errno 28] No space left") == 1
    assert "kkk" not in shown and "pass@" not in shown
    assert [call for call in Notes.calls if call[0] == "finish"] == [("finish", 0)]
    assert sum(call[0] == "log" for call in Notes.calls) == {"start": 2, "log": 2, "finish": 4}[fails_at]


def test_a_run_waits_for_no_call_and_only_a_limited_time_at_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FINISH_TIMEOUT", 0.2)
    begun = time.monotonic()
    trackers = Trackers({"slow": Notes(waits_at="start", seconds=30.0), "notes": Notes()}, tracked(tmp_path))
    for step in range(1000):
        trackers.log({"kl": 0.5}, step)
    assert time.monotonic() - begun < 0.2
    trackers.finish(ExitCode.DONE)
    assert time.monotonic() - begun < 2.0
    assert "slow is not done" in capsys.readouterr().err
    assert sum(call[0] == "log" for call in Notes.calls) == 1000


def test_a_tracker_that_falls_too_far_behind_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_WAITING", 10)
    monkeypatch.setattr(module, "FINISH_TIMEOUT", 0.1)
    with Trackers({"slow": Notes(waits_at="start", seconds=30.0)}, tracked(tmp_path)) as trackers:
        for step in range(100):
            trackers.log({"kl": 0.5}, step)
    assert capsys.readouterr().err.count("10 rows behind") == 1


def test_the_exit_code_of_an_error_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(Preempted), Trackers({"notes": Notes()}, tracked(tmp_path)):
        raise Preempted("the node is needed")
    assert Notes.calls[-1] == ("finish", 75)


def test_other_ranks_and_runs_without_trackers_have_no_identity(tmp_path: Path) -> None:
    assert Trackers({"notes": Notes()}, None).identity is None
    assert Trackers({}, tracked(tmp_path)).identity is None
    assert Notes.calls == []


def test_short_values_and_other_variables_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cr3t-value")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert without_secrets("false: s3cr3t-value of https://me:word@host") == "false: *** of https://***@host"
