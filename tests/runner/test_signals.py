"""Signals during a training step and between steps."""

import signal
from pathlib import Path

import pytest

from r1exp.errors import Interrupted, Preempted
from r1exp.runner import signals
from r1exp.runner.signals import Listener
from r1exp.step.stop_request import StopRequest, request_stop, requested_stop


@pytest.mark.parametrize(
    ("number", "is_job", "expected"),
    [
        pytest.param(signal.SIGINT, False, "interrupted", id="Ctrl-C"),
        pytest.param(signal.SIGTERM, False, "interrupted", id="SIGTERM"),
        pytest.param(signal.SIGTERM, True, "preempted", id="SIGTERM in a job"),
        pytest.param(signal.SIGUSR1, False, "preempted", id="SIGUSR1"),
    ],
)
def test_the_first_signal_requests_a_checkpoint_of_a_training_step(
    number: signal.Signals, is_job: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R1EXP_JOB", "1") if is_job else monkeypatch.delenv("R1EXP_JOB", raising=False)
    listener = Listener()
    with listener.training(tmp_path):
        listener.receive(number)
        request = requested_stop(tmp_path)
        assert request is not None and request.state == expected
        assert number.name in request.reason
        listener.check()  # the time limit is not reached


def test_a_second_signal_ends_the_run_at_once_except_in_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    with listener.training(tmp_path):
        listener.receive(signal.SIGINT)
        with pytest.raises(Interrupted):
            listener.receive(signal.SIGINT)
    monkeypatch.setenv("R1EXP_JOB", "1")
    in_job = Listener()
    with in_job.training(tmp_path):
        in_job.receive(signal.SIGUSR1)
        in_job.receive(signal.SIGTERM)
        assert in_job.request is not None and "SIGUSR1" in in_job.request.reason


def test_a_step_that_does_not_train_ends_at_once() -> None:
    with pytest.raises(Preempted):
        Listener().receive(signal.SIGUSR1)


def test_the_run_ends_if_the_ranks_do_not_save_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_PATIENCE", -1.0)
    listener = Listener()
    with listener.training(tmp_path):
        listener.receive(signal.SIGINT)
        with pytest.raises(Interrupted):
            listener.check()


def test_a_request_to_an_earlier_start_is_deleted(tmp_path: Path) -> None:
    request_stop(tmp_path, StopRequest(state="interrupted", reason="earlier"))
    with Listener().training(tmp_path):
        assert requested_stop(tmp_path) is None
