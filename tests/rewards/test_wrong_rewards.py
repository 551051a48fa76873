"""`r1exp check` finds every way in which a user's reward is wrong, and says why in its first line."""

import importlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, Reward
from r1exp.rewards.check import Report, check
from r1exp.rewards.committee import Committee
from r1exp.rewards.faults import scores_from
from r1exp.rewards.function import Function
from r1exp.rewards.menu import REWARDS
from r1exp.rewards.strict import Strict
from tests.rewards.wrong_rewards import HEAD, LATER, RIGHT, WRONG, Wrong

PROBLEMS = [
    Problem("a", "What is 2 + 3?", "5", {"solution": "2 + 3 = 5"}),
    Problem("b", "What is 3 + 4?", "7", {"solution": "3 + 4 = 7"}),
]
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes a module with the given source and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> str:
        name = f"wrong_{tmp_path.name.replace('-', '_')}_{len(list(tmp_path.iterdir()))}"
        (tmp_path / f"{name}.py").write_text(source + "\n")
        importlib.invalidate_caches()
        return name

    return write


def member(module: str, wrong: Wrong, **settings: object) -> Function:
    arguments = {"limt": 3} if "limt" in wrong.arguments else {}
    return Function(kind=f"{module}:score", factory=wrong.factory, arguments=arguments, **settings)  # type: ignore[arg-type]


def checked(rewards: dict[str, Reward], problems: Sequence[Problem] = PROBLEMS) -> Report:
    return check({"right": Strict(style="think_answer"), **rewards}, "think_answer", problems)


def test_every_wrong_function_is_found_and_named(write: Write, tmp_path: Path) -> None:
    """All in one committee: a member that fails does not hide the next."""
    modules = [write(wrong.source) for wrong in WRONG.values()]
    report = checked({f"m{i}-": member(modules[i], wrong) for i, wrong in enumerate(WRONG.values())})
    missed = []
    for i, wrong in enumerate(WRONG.values()):
        says = wrong.says.replace("MODULE", modules[i]).replace("FOLDER", str(tmp_path))
        found = [line for line in report.failures if line.startswith(f"rewards.m{i}-")]
        if len(found) != 1 or says not in found[0] or "\n" in found[0]:
            missed.append((says, found))
    assert not missed
    assert len(report.failures) == len(WRONG) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("name", [*list(WRONG)[:22], *LATER])  # the fast test above has the others
def test_check_refuses_it_with_the_cause_in_its_first_line(
    name: str, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = (WRONG | LATER)[name]
    module = write(wrong.source)
    started = time.monotonic()
    settings = f'kind: "{module}:score", factory: {str(wrong.factory).lower()}, arguments: {wrong.arguments}'
    settings += f", deadline: {wrong.deadline}"
    assert main(["check", f"+rewards.mine={{{settings}}}"]) == 2
    assert time.monotonic() - started < 30
    printed = capsys.readouterr()
    first = (printed.err + printed.out).splitlines()[0]
    says = wrong.says.replace("MODULE", module).replace("FOLDER", str(tmp_path)).replace(" 14x", " 88x")
    assert says in first
    assert "rewards.mine" in first


def test_a_function_that_hangs_costs_the_deadline_of_its_first_call(write: Write) -> None:
    reward = member(write(LATER["hangs"].source), LATER["hangs"], deadline=0.2)
    started = time.monotonic()
    (failure,) = checked({"mine": reward}).failures
    assert "rewards.mine did not return within its deadline, 0.4 s for 2 completions" in failure
    assert time.monotonic() - started < 10  # takes 1 s; a call for each completion would take 45 s


def test_a_function_that_hangs_on_a_cheat_is_called_no_more_and_noted(write: Write) -> None:
    source = (
        HEAD
        + "\n    while 'go on' in completions[0][0]['content']: pass\n    return [1.0] * len(completions)"
    )
    report = checked({"mine": Function(kind=f"{write(source)}:score", deadline=0.2)})
    assert report.ok, report.text()
    (warning,) = report.warnings
    assert "rewards.mine did not return" in warning
    assert "'very long repetition' of problem 'a'" in warning
    assert report.lines[0].scores["mine"] == 1.0


def test_functions_that_are_odd_and_not_wrong_pass(write: Write) -> None:
    rewards: dict[str, Reward] = {
        name: Function(kind=f"{write(HEAD + body)}:score") for name, body in RIGHT.items()
    }
    report = checked(rewards, PROBLEMS[:1])
    assert report.ok, report.text()
    assert {name: report.lines[0].scores[name] for name in RIGHT} == dict.fromkeys(RIGHT, 1.0)


def test_numbers_of_torch_are_numbers() -> None:
    import torch

    assert scores_from(torch.tensor([1.0, 0.5]), 2) == [1.0, 0.5]
    assert scores_from([torch.tensor(1.0), 0.5], 2) == [1.0, 0.5]


def test_what_a_function_prints_is_kept_out_of_the_table_and_noted(write: Write) -> None:
    source = HEAD + "print('scoring', len(completions))\n    return [1.0] * len(completions)"
    report = checked({"mine": Function(kind=f"{write(source)}:score")}, PROBLEMS[:1])
    (warning,) = report.warnings
    assert "in training to log.txt; the first line: scoring 2" in warning


def test_a_function_that_gives_another_score_each_time_is_noted(write: Write) -> None:
    source = "import random\n" + HEAD + "return [random.random() for _ in completions]"
    report = checked({"mine": Function(kind=f"{write(source)}:score", weight=0.0)}, PROBLEMS[:1])
    assert report.ok, report.text()
    assert "for the same completions: a run with it cannot be repeated" in report.text()


def test_a_score_outside_of_the_declared_span_fails(write: Write) -> None:
    module = write(HEAD + "return [3.0] * len(completions)")
    report = checked({"mine": Function(kind=f"{module}:score", lowest=0.0, highest=1.0)}, PROBLEMS[:1])
    assert report.failures == ("rewards.mine gave 3, outside of the span that it declares, 0 to 1",)


CLASS = """
from r1exp.rewards.base import Reward
class Mine(Reward):
    @property
    def span(self):
        return (0.0, 1.0)
    def score(self, problem, completion, context):
        BODY
"""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param("return 1 / 0", "ZeroDivisionError: division by zero", id="raises"),
        pytest.param("pass", "(function gave no value 7x)", id="returns None"),
        pytest.param("return float('nan')", "returned nan", id="returns NaN"),
        pytest.param("return 'right'", "returned 'right', a str", id="returns a text"),
        pytest.param("raise SystemExit(1)", "SystemExit: 1", id="exits"),
    ],
)
def test_a_wrong_class_is_found_too(write: Write, body: str, says: str) -> None:
    kind = f"{write(CLASS.replace('BODY', body))}:Mine"
    report = checked({"mine": REWARDS.find(kind)(kind=kind)}, PROBLEMS[:1])
    assert not report.ok
    assert says in report.failures[0]


def test_a_class_that_returns_no_number_ends_the_training_instead_of_spoiling_it(write: Write) -> None:
    kind = f"{write(CLASS.replace('BODY', 'return completion.text'))}:Mine"
    committee = Committee({"mine": REWARDS.find(kind)(kind=kind)})
    with pytest.raises(ValueError, match=r"rewards\.mine returned 'x', a str, for a completion"):
        committee.score(PROBLEMS[:1], [Completion("x", 1)], Context())


def test_a_class_that_seeds_the_generators_does_not_change_what_is_sampled_next(write: Write) -> None:
    import random

    import numpy
    import torch

    seeds = "import random, numpy, torch\n        random.seed(1); numpy.random.seed(1); torch.manual_seed(1)"
    kind = f"{write(CLASS.replace('BODY', seeds + '; return 1.0'))}:Mine"
    committee = Committee({"mine": REWARDS.find(kind)(kind=kind)})

    def drawn() -> list[float]:
        return [random.random(), float(numpy.random.rand()), torch.rand(1).item()]

    for seed in (random.seed, numpy.random.seed, torch.manual_seed):
        seed(7)
    expected = drawn()
    for seed in (random.seed, numpy.random.seed, torch.manual_seed):
        seed(7)
    committee.score(PROBLEMS[:1], [Completion("x", 1)], Context())
    assert drawn() == expected


def test_a_run_with_a_wrong_function_is_refused_before_anything_is_written(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = write(WRONG["returns too few"].source)
    before = sorted(tmp_path.iterdir())
    assert main(["debug=fast", f"+rewards.mine={{kind: {module}:score}}"]) == 2
    assert "step rl: rewards.mine returned 1 values for 2 completions" in capsys.readouterr().err
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before
