"""The data set that stage=sample writes: pass rates, and only problems within the bounds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.dataset.jsonl import Jsonl
from r1exp.files import read_json
from r1exp.records import Completion, Problem
from r1exp.stage.sample import Sample
from r1exp.stage.sample_answers import _save, pass_rate, scored
from r1exp.stage.step import Step


def row(name: str, verdicts: list[bool | None]) -> dict[str, Any]:
    """Return a problem whose answers have these verdicts."""
    answers = [{"text": f"{name}{n}", "reward": float(n), "right": right} for n, right in enumerate(verdicts)]
    gold = None if None in verdicts else "4"
    return {
        "id": name, "prompt": f"{name}?", "answer": gold, "columns": {"solution": "old", "topic": "sums"},
        "answers": answers, "pass_rate": pass_rate(answers),
    }  # fmt: skip


ROWS = [row("never", [False] * 4), row("once", [False, True, False, False]), row("often", [True, True, False, True]),
        row("always", [True] * 4)]  # fmt: skip


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        pytest.param((0.0, 1.0), ["never", "once", "often", "always"], id="all"),
        pytest.param((0.1, 0.9), ["once", "often"], id="neither never nor always"),
        pytest.param((0.25, 0.25), ["once"], id="bounds are inclusive"),
    ],
)
def test_problems_outside_the_bounds_are_left_out_of_the_data_set(
    bounds: tuple[float, float], kept: list[str], tmp_path: Path
) -> None:
    low, high = bounds
    stage = Sample(
        kind="sample", samples=4, num_problems=None, min_pass_rate=low, max_pass_rate=high, keep_unsolved=True
    )
    _save(ROWS, stage, "plain", tmp_path / "artifact")
    data = Jsonl(
        kind="jsonl", path=str(tmp_path / "artifact" / "data.jsonl"), test_path=None, num_test=0, question="question",
        answer="answer", solution="solution", limit=None, test_limit=None,
    )  # fmt: skip
    problems = data.load("train")
    assert [problem.id for problem in problems] == kept
    rates = {"never": 0.0, "once": 0.25, "often": 0.75, "always": 1.0}
    assert [problem.columns["pass_rate"] for problem in problems] == [rates[name] for name in kept]
    assert all(problem.columns["topic"] == "sums" for problem in problems)
    facts = read_json(tmp_path / "artifact" / "facts.json")
    assert (facts["num_problems"], facts["num_problems_kept"], facts["mean_pass_rate"]) == (4, len(kept), 0.5)
    assert facts["num_rows"] == facts["num_kept"] + sum(facts["dropped"].values()) == 16


def test_without_a_gold_answer_there_is_no_pass_rate() -> None:
    assert pass_rate([{"right": None}, {"right": None}]) is None


def test_a_sampled_answer_that_cannot_be_scored_has_the_reward_that_training_gives_it(
    frozen: Callable[..., Step], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first answer scores 4, the second abstains: it counts as the mean of its group, not as 0.
    (tmp_path / "mine.py").write_text(
        "def score(completions, **kwargs):\n"
        "    return [4.0 if 'yes' in c[0]['content'] else None for c in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    step = frozen("stage=sample", "~rewards", "+rewards.mine.kind=mine:score")
    group = [Completion("yes", 1), Completion("no", 1)]
    (answers,) = scored(step.config, [Problem("p", "p?", "1")], [group])
    assert [answer["reward"] for answer in answers] == [4.0, 4.0]
    assert [answer["scores"] for answer in answers] == [{"mine": 4.0}, {"mine": None}]


def test_rows_that_the_judging_member_leaves_out_are_judged_as_evaluations_judge_them(
    frozen: Callable[..., Step],
) -> None:
    step = frozen("stage=sample", "rewards=r1_zero", "+rewards.accuracy.applies_to={source: sums}")
    problems = [
        Problem("s", "2 + 2?", "4", {"source": "sums"}),
        Problem("c", "Hi?", "Hello, Ada!", {"source": "chat", "answer_kind": "text"}),
    ]
    right, wrong = ("<think>a</think>\n<answer>4</answer>", "<think>a</think>\n<answer>5</answer>")
    polite, curt = (
        "<think></think>\n<answer>hello, Ada!</answer>",
        "<think></think>\n<answer>What?</answer>",
    )
    groups = [[Completion(right, 9), Completion(wrong, 9)], [Completion(polite, 9), Completion(curt, 9)]]
    found = scored(step.config, problems, groups)
    assert [[answer["right"] for answer in answers] for answers in found] == [[True, False], [True, False]]
