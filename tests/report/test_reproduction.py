"""Two executions of one run: equal bit for bit, within the intervals, or different."""

from pathlib import Path

import pytest

from r1exp.errors import Refused
from r1exp.files import write_json, write_text
from r1exp.paths import RunPaths
from r1exp.report.reproduction import compared
from r1exp.step.status import ArtifactInfo, Status


def execution(
    run: Path, model: str = "m", right: int = 5, losses: tuple[float, ...] = (3.0, 2.0), time: float = 1.0
) -> Path:
    """Make a run directory with a training step and an evaluation of ten problems."""
    train, measure = RunPaths(run).step(1, "sft"), RunPaths(run).step(2, "evaluate")
    Status(state="done", artifact=ArtifactInfo(kind="model", hash=model)).write(train.folder)
    rows = [
        f'{{"step": {step}, "loss": {loss}, "step_time": {time}}}\n'
        for step, loss in enumerate(losses, start=1)
    ]
    write_text(train.metrics, "".join(rows))
    Status(state="done", artifact=ArtifactInfo(kind="scores", hash=str(right))).write(measure.folder)
    outcomes = [[number < right] for number in range(10)]
    content = {"problem_ids": list(range(10)), "outcomes": {"greedy": outcomes}}
    write_json(measure.results.scores, content)
    return run


def test_equal_runs_are_equal_though_they_took_another_time(tmp_path: Path) -> None:
    found = compared(execution(tmp_path / "a"), execution(tmp_path / "b", time=2.0))
    assert found.verdict == "equal"
    assert "bit for bit" in found.text()


def test_another_model_with_almost_the_same_answers_is_the_same_within_the_interval(tmp_path: Path) -> None:
    found = compared(
        execution(tmp_path / "a"), execution(tmp_path / "b", model="n", right=6, losses=(3.0, 2.5))
    )
    assert found.verdict == "within"
    train, measure = found.steps
    assert (train.differs_at, train.metric) == (2, "loss")
    (score,) = measure.scores
    assert (score.there, score.here) == (0.5, 0.6)
    assert score.low <= 0.0 <= score.high
    assert "greedy 50.0 % there, 60.0 % here, +10.0 points" in found.text()


def test_other_answers_are_another_result(tmp_path: Path) -> None:
    found = compared(execution(tmp_path / "a", right=0), execution(tmp_path / "b", model="n", right=10))
    assert found.verdict == "different"


def test_another_model_that_nobody_measured_is_another_result(tmp_path: Path) -> None:
    runs = execution(tmp_path / "a"), execution(tmp_path / "b", model="n")
    for run in runs:
        RunPaths(run).step(2, "evaluate").results.scores.unlink()
    assert compared(*runs).verdict == "different"


def test_a_run_that_is_not_done_or_has_other_steps_is_not_compared(tmp_path: Path) -> None:
    whole, part = execution(tmp_path / "a"), execution(tmp_path / "b")
    Status(state="failed").write(RunPaths(part).step(2, "evaluate").folder)
    assert compared(whole, part).verdict == "unfinished"
    other = tmp_path / "c"
    Status(state="done").write(RunPaths(other).step(1, "rl").folder)
    with pytest.raises(Refused, match="other experiments"):
        compared(whole, other)
    with pytest.raises(Refused, match="has no steps"):
        compared(whole, tmp_path / "nothing")
