"""The screen of members that run side by side: a line for each, on any terminal, and lines in a log."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from r1exp.config.experiment import Experiment
from r1exp.plan.run_plan import PlanStep
from r1exp.plan.steps import planned_steps
from r1exp.runner.members_screen import MembersScreen
from r1exp.step.status import Status

Steps = tuple[PlanStep, ...]


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def steps(compose_line: Callable[..., Experiment]) -> Steps:
    return planned_steps(compose_line("stage=sft", "evaluation.after=false"))


def begun(screen: MembersScreen, number: int, folder: Path, steps: Steps, done: float) -> None:
    """Show a member that has finished its evaluation, and is `done` steps into its training."""
    Status(state="done").write(steps[0].paths(folder).folder)
    training = steps[1].paths(folder).folder
    training.mkdir(parents=True)
    row = {"done": done, "total": 50, "unit": "optimizer steps", "doing": ""}
    (training / "progress.json").write_text(json.dumps(row))
    (training / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 1.25}) + "\n")
    screen.started(number, f"member {number} seed={number} rewards.format.weight=0.5", folder, steps)


def drawn(screen: MembersScreen, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(screen.lines(60.0, height))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_line_for_each_member_fits_any_terminal(width: int, tmp_path: Path, steps: Steps) -> None:
    clock = Clock()
    screen = MembersScreen(24, 2, io.StringIO(), clock)
    for number in (8, 9):
        begun(screen, number, tmp_path / str(number), steps, done=20 + number)
    clock.now = 1.0
    screen.follow()
    lines = drawn(screen, width, 24)
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    assert lines[1].startswith("8 seed")
    if width >= 80:
        assert lines[0] == "sweep: 0 of 24 done, 2 running, 22 waiting; 1:00"
        assert "[2/2] sft" in lines[2] and "29/50" in lines[2] and "loss 1.250" in lines[2]


def test_fifty_members_fit_a_terminal_of_24_rows(tmp_path: Path, steps: Steps) -> None:
    screen = MembersScreen(50, 50, io.StringIO(), Clock())
    for number in range(50):
        begun(screen, number, tmp_path / str(number), steps, done=1)
    lines = drawn(screen, 80, 24)
    assert len(lines) == 22
    assert lines[-1] == "  and 30 more"


def test_a_log_gets_lines_and_every_result(
    tmp_path: Path, steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, stream = Clock(), io.StringIO()
    screen = MembersScreen(3, 2, stream, clock)
    for number in (0, 1):
        begun(screen, number, tmp_path / str(number), steps, done=10)
    clock.now = 20.0
    screen.ended(0, "failed", "member 0 seed=0: failed: rank 0 failed first")
    screen.follow()
    screen.close()
    assert capsys.readouterr().out == "member 0 seed=0: failed: rank 0 failed first\n"
    assert stream.getvalue().splitlines() == [
        "sweep: 0 of 3 done, 1 failed, 1 running, 1 waiting; 0:20, about 0:15 left",
        "  member 1 seed=1 rewards.format.weight=0.5: [2/2] sft, 10/50, loss 1.250",
    ]


def test_a_folder_that_cannot_be_read_ends_nothing(tmp_path: Path, steps: Steps) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "steps").write_text("")
    screen = MembersScreen(1, 1, io.StringIO(), Clock())
    screen.started(0, "member 0", tmp_path / "0", steps)
    screen.follow()
    assert "starts" in screen.text(0.0)[1]
