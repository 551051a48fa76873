"""Signals while a step runs and between steps."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from r1exp.errors import Interrupted, Preempted
from r1exp.launcher.base import Launch
from r1exp.launcher.keeper import descendants
from r1exp.paths import CheckpointPaths, StepPaths
from r1exp.runner import signals
from r1exp.runner.process import run_process
from r1exp.runner.signals import Listener, listening
from r1exp.step.progress import ProgressWriter
from r1exp.step.stop_request import StopRequest, request_stop, requested_stop


def listener_with_notes() -> tuple[Listener, list[str]]:
    listener, notes = Listener(), list[str]()
    listener.note = notes.append
    return listener, notes


def take_steps(folder: Path, number: int) -> None:
    ProgressWriter(folder, "optimizer steps", 100).move_to(number)


@pytest.mark.parametrize(
    ("number", "is_job", "expected"),
    [
        pytest.param(signal.SIGINT, False, "interrupted", id="Ctrl-C"),
        pytest.param(signal.SIGTERM, False, "interrupted", id="SIGTERM"),
        pytest.param(signal.SIGTERM, True, "preempted", id="SIGTERM in a job"),
        pytest.param(signal.SIGUSR1, False, "preempted", id="SIGUSR1"),
    ],
)
def test_the_first_signal_requests_a_checkpoint_of_a_training_step_and_says_so(
    number: signal.Signals, is_job: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R1EXP_JOB", "1") if is_job else monkeypatch.delenv("R1EXP_JOB", raising=False)
    listener, notes = listener_with_notes()
    with listener.running(tmp_path, can_save=True):
        take_steps(tmp_path, 12)
        listener.receive(number)
        listener.check()
        listener.check()  # the time limit is not reached
        request = requested_stop(tmp_path)
        assert request is not None and request.state == expected
        assert number.name in request.reason
    (note,) = notes
    assert "saves a checkpoint after optimizer step 13 of 100" in note
    assert ("Ctrl-C again" in note) is not is_job


def test_a_second_signal_ends_the_run_at_once_except_in_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener, _ = listener_with_notes()
    in_job, _ = listener_with_notes()
    take_steps(tmp_path, 1)
    with listener.running(tmp_path, can_save=True):
        listener.receive(signal.SIGINT)
        listener.check()
        assert listener.grace() > 0.0
        listener.receive(signal.SIGINT)
        with pytest.raises(Interrupted):
            listener.check()
        assert listener.grace() == 0.0
    monkeypatch.setenv("R1EXP_JOB", "1")
    with in_job.running(tmp_path, can_save=True):
        for number in (signal.SIGUSR1, signal.SIGTERM):
            in_job.receive(number)
            in_job.check()
        assert in_job.grace() > 0.0
        assert in_job.request is not None and "SIGUSR1" in in_job.request.reason


def test_a_step_with_nothing_to_save_ends_at_once(tmp_path: Path) -> None:
    """It evaluates, or it has not started to train, or its last checkpoint has every optimizer step."""
    checkpoint = CheckpointPaths.at(StepPaths(tmp_path).checkpoints, 50)
    checkpoint.folder.mkdir(parents=True)
    checkpoint.mark.touch()
    for num_steps, can_save in ((60, False), (None, True), (50, True)):
        listener, notes = listener_with_notes()
        StepPaths(tmp_path).progress.unlink(missing_ok=True)
        if num_steps is not None:
            take_steps(tmp_path, num_steps)
        with listener.running(tmp_path, can_save=can_save):
            listener.receive(signal.SIGINT)
            with pytest.raises(Interrupted):
                listener.check()
        assert len(notes) == 1 and "ending" in notes[0]
        assert requested_stop(tmp_path) is None


def test_a_signal_between_two_steps_ends_the_run_at_once() -> None:
    with pytest.raises(Preempted):
        Listener().receive(signal.SIGUSR1)


def test_the_run_ends_if_the_ranks_do_not_save_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_PATIENCE", 0.0)
    listener, _ = listener_with_notes()
    take_steps(tmp_path, 1)
    with listener.running(tmp_path, can_save=True):
        listener.receive(signal.SIGINT)
        listener.check()
        time.sleep(0.01)
        with pytest.raises(Interrupted):
            listener.check()


def test_a_request_to_an_earlier_start_is_deleted(tmp_path: Path) -> None:
    request_stop(tmp_path, StopRequest(state="interrupted", reason="earlier"))
    with Listener().running(tmp_path, can_save=True):
        assert requested_stop(tmp_path) is None


def test_only_the_first_signal_raises_and_none_where_a_status_is_written() -> None:
    listener, notes = listener_with_notes()
    with listener.interruptible(False):
        listener.receive(signal.SIGTERM)
        with pytest.raises(Interrupted), listener.interruptible():
            pytest.fail("the signal was received before the block")
        listener.receive(signal.SIGTERM)
    listener.receive(signal.SIGTERM)
    assert notes == ["interrupted: ending the run"]


STUBBORN = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def test_a_second_signal_while_the_processes_end_kills_them(tmp_path: Path) -> None:
    """A process that ignores SIGTERM would have 20 seconds after the first signal."""
    log = StepPaths(tmp_path).log()
    with listening() as listener:
        listener.note = lambda line: None

        def follow() -> None:
            if log.read_text():
                os.kill(os.getpid(), signal.SIGTERM)
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
                listener.check()

        begun = time.monotonic()
        launch = Launch((sys.executable, "-c", STUBBORN), {}, {})
        with pytest.raises(Interrupted), listener.running(tmp_path, can_save=False):
            run_process(launch, tmp_path, follow, listener.grace)
    assert time.monotonic() - begun < 10.0
    assert descendants(os.getpid()) == {}
