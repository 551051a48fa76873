import math
import subprocess
import sys

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import TIMEOUT, Abstain, Context, Reward, Score
from r1exp.rewards.committee import Committee
from r1exp.rewards.total import impute_group_mean, weighted_totals, weighted_totals_of_rows

NAN = math.nan


@pytest.mark.parametrize(
    ("scores", "groups", "expected"),
    [
        pytest.param([1.0, TIMEOUT, TIMEOUT, TIMEOUT], [(0, 1), (2, 3)], [1.0, 1.0, None, None], id="pairs"),
        pytest.param([0.0, 2.0, TIMEOUT, 3.0], [(0, 1, 2), (3,)], [0.0, 2.0, 1.0, 3.0], id="mean of 0 and 2"),
        pytest.param([1.0, 3.0], [(0, 1)], [1.0, 3.0], id="no abstention"),
    ],
)
def test_an_abstention_becomes_the_mean_of_its_group(
    scores: list[Score], groups: list[tuple[int, ...]], expected: list[float | None]
) -> None:
    assert impute_group_mean(scores, groups) == expected


@pytest.mark.parametrize(
    ("columns", "weights", "expected"),
    [
        pytest.param({"a": [2.0, 0.0], "b": [1.0, 1.0]}, {"a": 1.0, "b": 0.5}, [2.5, 0.5], id="two members"),
        pytest.param({"a": [2.0, None], "b": [None, 3.0]}, {"a": 1.0, "b": 0.5}, [2.0, 1.5], id="one scored"),
        pytest.param({"a": [None], "b": [None]}, {"a": 1.0, "b": 1.0}, [None], id="no score"),
        pytest.param({"a": [7.0], "b": [2.0]}, {"a": 0.0, "b": 1.0}, [2.0], id="weight 0 adds nothing"),
        pytest.param({"a": [math.inf], "b": [2.0]}, {"a": 0.0, "b": 1.0}, [2.0], id="infinite, weight 0"),
        pytest.param({"a": [7.0], "b": [None]}, {"a": 0.0, "b": 1.0}, [0.0], id="only weight 0 scored"),
        pytest.param(
            {"a": [0.1], "b": [0.2], "c": [0.3]}, dict.fromkeys("abc", 1.0), [0.6], id="rounded once"
        ),
        pytest.param({"a": []}, {"a": 1.0}, [], id="no rows"),
    ],
)
def test_the_total_sums_weight_times_score_over_members_that_scored(
    columns: dict[str, list[float | None]], weights: dict[str, float], expected: list[float | None]
) -> None:
    assert weighted_totals(columns, weights) == expected


def test_tables_with_nan_have_the_same_totals() -> None:
    rows = [[2.0, 1.0], [NAN, 3.0], [NAN, NAN], [0.0, NAN]]
    totals = weighted_totals_of_rows(rows, [1.0, 0.5])
    assert totals[:2] == [2.5, 1.5]
    assert math.isnan(totals[2])
    assert totals[3] == 0.0
    assert weighted_totals_of_rows([], [1.0]) == []


class Stated(Reward):
    """Returns the number that is the text, and abstains on any other text."""

    kind: str = "stated"

    @property
    def span(self) -> tuple[float, float]:
        return (0.0, 9.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        return float(completion.text) if completion.text.isdigit() else Abstain("no number")


def totals_of(committee: Committee, *texts: str) -> list[float | None]:
    problems = [Problem(f"p{row // 2}", f"p{row // 2}", "42") for row in range(len(texts))]
    _, totals = committee.totals(problems, [Completion(text, 3) for text in texts], Context())
    return totals


def test_the_committees_totals_count_an_abstention_as_the_mean_of_its_group() -> None:
    assert totals_of(Committee({"stated": Stated()}), "4", "x") == [4.0, 4.0]
    assert totals_of(Committee({"stated": Stated(weight=0.5)}), "4", "2", "x", "x") == [2.0, 1.0, None, None]


def test_the_committees_totals_come_with_every_members_scores() -> None:
    committee = Committee({"stated": Stated(), "logged": Stated(weight=0.0)})
    problem = Problem("p", "p", "42")
    completions = [Completion("4", 3), Completion("x", 3)]
    scores, totals = committee.totals([problem] * 2, completions, Context())
    assert scores == {"stated": [4.0, Abstain("no number")], "logged": [4.0, Abstain("no number")]}
    assert totals == [4.0, 4.0]


def test_totals_need_no_torch() -> None:
    code = "import sys, r1exp.rewards.total; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
