"""The progress of a step: its rate and time left, its lines in a log, and its bars on a terminal."""

import io
import json
from pathlib import Path

import pytest

from r1exp.runner.progress import Pace, StepProgress, duration, pause_between_lines, rate_text
from r1exp.step.progress import ProgressWriter, read_progress
from r1exp.tracking.metrics import MetricsFile


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def step_progress(folder: Path, clock: Clock) -> tuple[StepProgress, io.StringIO]:
    stream = io.StringIO()
    return StepProgress("sft", 2, 5, folder, begun=0.0, stream=stream, clock=clock), stream


def test_the_rate_counts_only_what_was_done_while_it_was_observed() -> None:
    pace = Pace()
    assert pace.rate(0.0) is None
    for second, done in ((0, 50), (1, 54), (2, 58)):  # a resumed step begins at 50
        pace.add(second, done)
    assert pace.rate(2.0) == pytest.approx(4.0)
    assert pace.time_left(2.0, total=98) == pytest.approx(10.0)


def test_the_rate_follows_the_last_seconds_and_falls_while_a_step_lasts_longer_than_usual() -> None:
    pace = Pace(window=10.0)
    for second in range(30):
        pace.add(second, 10.0 * min(second, 10) + max(0, second - 10))
    assert pace.rate(29.0) == pytest.approx(1.0, rel=0.1)
    assert (pace.rate(60.0) or 0.0) < 0.3


@pytest.mark.parametrize(
    ("rate", "expected"),
    [pytest.param(1234.5, "1,234.5/s", id="fast"), pytest.param(0.25, "4.0 s each", id="slow")],
)
def test_a_rate_below_one_is_shown_as_seconds(rate: float, expected: str) -> None:
    assert rate_text(rate) == expected


@pytest.mark.parametrize(("seconds", "expected"), [(61.4, "1:01"), (3600.0, "1:00:00"), (7.0, "0:07")])
def test_durations_have_minutes_and_seconds(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(("elapsed", "expected"), [(0.0, 10.0), (600.0, 60.0), (36_000.0, 300.0)])
def test_lines_of_a_log_become_rarer(elapsed: float, expected: float) -> None:
    assert pause_between_lines(elapsed) == expected


def test_a_log_gets_lines_without_control_characters(tmp_path: Path) -> None:
    clock = Clock()
    progress, stream = step_progress(tmp_path, clock)
    progress.follow()
    assert stream.getvalue() == ""
    clock.now = 10.0
    progress.follow()
    writer = ProgressWriter(tmp_path, "optimizer steps", 150, clock=clock)
    MetricsFile(tmp_path / "metrics.jsonl").append({"step": 4, "loss": 0.25})
    for now in (11.0, 12.0, 20.0):
        clock.now = now
        writer.move_to(4 * (now - 10))
        progress.follow()
    progress.close()
    assert stream.getvalue().splitlines() == [
        "[2/5] sft: starting: imports, model, data (0:10)",
        "[2/5] sft: 40/150 optimizer steps, 4.0/s, 0:28 left, loss 0.250",
    ]
    assert read_progress(tmp_path) is None, "a later start of the step must not find it"


def test_completions_are_written_at_most_twice_a_second_and_for_all_ranks(tmp_path: Path) -> None:
    clock = Clock()
    writer = ProgressWriter(tmp_path, "completions", 100, share=0.5, clock=clock)
    found = []
    for tenth in range(10):
        clock.now = tenth / 10
        writer.advance(1.0)
        progress = read_progress(tmp_path)
        found.append(None if progress is None else progress.done)
    assert found == [2.0] * 5 + [12.0] * 5


def test_progress_continues_when_a_resumed_step_drops_rows(tmp_path: Path) -> None:
    """The old read offset may be in the middle of a line of the new file."""
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        metrics.append({"step": step, "loss": 1.0 / step})
    progress, _ = step_progress(tmp_path, Clock())
    progress.follow()
    metrics.forget_after(1)
    metrics.append({"step": 2, "loss": 0.123456789})
    progress.follow()
    assert (progress._rows.row["step"], progress._rows.row["loss"]) == (2, 0.123456789)


def test_a_broken_health_rule_is_a_line_of_its_own_and_stays_beside_the_progress(tmp_path: Path) -> None:
    clock = Clock()
    progress, output = step_progress(tmp_path, clock)
    row = {"step": 3, "rule": "kl_high", "sentence": "kl_high: kl 0.5 is above 0.4 at step 3; raise beta"}
    (tmp_path / "health.jsonl").write_text(f"{json.dumps(row)}\n")
    progress.follow()
    progress.follow()
    assert output.getvalue().count("health: kl_high: kl 0.5 is above 0.4 at step 3; raise beta\n") == 1
    assert progress.line(20.0).endswith("health: kl_high")
