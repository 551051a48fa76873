from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from r1exp.dataset.arithmetic import Arithmetic
from r1exp.errors import Refused
from r1exp.evaluation.outcomes import compare
from r1exp.evaluation.score import score
from r1exp.evaluation.settings import EvaluationSettings, Suite
from r1exp.prompt.settings import PromptSettings
from r1exp.records import Completion, Message, Problem
from r1exp.rollout.base import Sampling

CONF = Path(__file__).parents[2] / "conf" / "evaluation"
PROMPT = PromptSettings(style="think_answer", system="Think.")


def settings(**changes: Any) -> EvaluationSettings:
    values = {"before": True, "after": True, "num_problems": None, "samples": 1, "temperature": 0.7}
    values |= {"top_p": 0.9, "greedy": True, "max_tokens": 16}
    return EvaluationSettings.model_validate(values | changes)


def suite(**changes: Any) -> Suite:
    """Return the suite of the run's own data set."""
    dataset = Arithmetic(
        kind="arithmetic", seed=0, num_train=9, num_test=9, num_operands=2, max_operand=9, test_share=0.5
    )
    (found,) = settings(**changes).resolved(dataset, PROMPT)
    return found


def problems(num_problems: int) -> list[Problem]:
    return [Problem(f"p{n}", f"{n} + 1?", str(n + 1)) for n in range(num_problems)]


class Adder:
    """Answers `n + 1?` correctly, except that every second sample is one too large."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[list[Message]], int, Sampling]] = []

    def generate(self, prompts: list[list[Message]], n: int, sampling: Sampling) -> list[list[Completion]]:
        self.calls.append((prompts, n, sampling))
        sums = [int(prompt[-1]["content"].split()[0]) + 1 for prompt in prompts]
        return [[self._write(total + k % 2) for k in range(n)] for total in sums]

    def _write(self, total: int) -> Completion:
        return Completion(f"<think>so</think>\n<answer>{total}</answer>", num_tokens=9)


def test_every_problem_gets_sampled_and_greedy_answers() -> None:
    adder = Adder()
    scores = score(adder, problems(3), suite(samples=2), seed=5)
    (prompts, n, sampled), (same_prompts, one, greedy) = adder.calls
    assert prompts == same_prompts
    assert [turn["role"] for turn in prompts[0]] == ["system", "user"]
    assert (n, one) == (2, 1)
    assert sampled == Sampling(temperature=0.7, top_p=0.9, max_tokens=16, seed=5)
    assert greedy.temperature == 0.0
    assert scores.problem_ids == ("p0", "p1", "p2")
    assert scores.outcomes == {"sampled": [[True, False]] * 3, "greedy": [[True]] * 3}


def test_the_summary_counts_problems_not_samples() -> None:
    summary = score(Adder(), problems(10), suite(samples=2), seed=0).summary()
    assert list(summary) == ["sampled", "greedy"]
    assert set(summary["sampled"]) == {"value", "n", "low", "high"}
    assert (summary["sampled"]["value"], summary["sampled"]["n"]) == (0.5, 10)
    # 10 of 10: 3/4 low^10 = 0.025
    assert summary["greedy"]["low"] == pytest.approx(0.7117, abs=5e-5)
    assert summary["greedy"]["high"] == 1.0


@pytest.mark.parametrize(
    ("changes", "modes"),
    [({"samples": 0}, ["greedy"]), ({"greedy": False}, ["sampled"])],
)
def test_one_mode_can_be_evaluated_alone(changes: dict[str, Any], modes: list[str]) -> None:
    adder = Adder()
    assert list(score(adder, problems(2), suite(**changes), seed=0).outcomes) == modes
    assert len(adder.calls) == 1


def test_num_problems_limits_the_problems() -> None:
    scores = score(Adder(), problems(9), suite(num_problems=4), seed=0)
    assert scores.problem_ids == ("p0", "p1", "p2", "p3")


@pytest.mark.parametrize(
    ("text", "gold", "read", "how"),
    [
        pytest.param("<answer>1080</answer>", "1,080", "1080", "equal numbers", id="the same number"),
        pytest.param("<answer>7.0</answer>", "7", "7.0", "equal numbers", id="seven as a decimal"),
        pytest.param("I think it is 7.", "7", "7", "equal numbers", id="the last number"),
        pytest.param(
            "<answer>8</answer> or 7",
            "7",
            "8",
            "different numbers",
            id="the tagged answer before the last number",
        ),
        pytest.param("<answer>x=1或x=3</answer>", "x=1或x=3", "x=1或x=3", "same text", id="the same text"),
        pytest.param("no idea", "7", None, "no answer", id="no answer"),
    ],
)
def test_answers_are_read_and_judged(text: str, gold: str, read: str | None, how: str) -> None:
    class FixedAnswer(Adder):
        def _write(self, total: int) -> Completion:
            return Completion(text, num_tokens=16, finished=False)

    problem = Problem("p", "0 + 1?", gold)
    [row] = score(FixedAnswer(), [problem], suite(samples=0), seed=0).rows()
    assert row == {
        "suite": "test", "problem_id": "p", "mode": "greedy", "prompt": "0 + 1?", "sample": 0, "text": text, "answer": read, "gold": gold,
        "correct": (right := how in ("equal numbers", "same text")), "how": how, "num_tokens": 16, "finished": False,
        "exact": right and "<answer>" in text, "plausible": right or text.endswith(" 7"), "format": False,
        "input_tokens": None, "mixed": None, "reward": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [([], "no held-out problem"), ([Problem("p7", "1 + 1?", None)], "'p7'")],
)
def test_missing_problems_and_gold_answers_are_refused(given: list[Problem], message: str) -> None:
    with pytest.raises(Refused, match=message):
        score(Adder(), given, suite(), seed=0)


def test_single_answers_are_compared_by_mcnemar() -> None:
    before, after = [[False]] * 5 + [[True]] * 5, [[True]] * 10
    test = compare(before, after)
    assert (test["method"], test["difference"], test["p_value"]) == (
        "mcnemar",
        0.5,
        1 / 32,
    )  # mid-P: half of 2 / 32
    assert (test["only_before"], test["only_after"], test["n"]) == (0, 5, 10)


def test_several_answers_are_compared_per_problem() -> None:
    # differences 0, 1/2, 1 of four problems each: t = 1/2 / (0.4264 / sqrt(12)) = 4.062, eleven degrees of freedom
    test = compare([[False, False]] * 12, [[False, False], [True, False], [True, True]] * 4)
    assert (test["method"], test["difference"]) == ("paired_t", 0.5)
    assert test["p_value"] == pytest.approx(2 ** (1 - 8))  # 8 of 8 changed problems became better


def test_one_answer_is_compared_with_several() -> None:
    test = compare([[False], [True]], [[False, True], [True, True]])
    assert (test["method"], test["difference"]) == ("paired_t", 0.25)


def test_different_numbers_of_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="same problems"):
        compare([[True]], [[True], [False]])


def test_scores_read_back_give_the_same_comparison() -> None:
    content = score(Adder(), problems(3), suite(), seed=0).to_json()
    assert content["problem_ids"] == ["p0", "p1", "p2"]
    assert compare(content["outcomes"]["greedy"], content["outcomes"]["greedy"])["p_value"] == 1.0


def test_neither_sampled_nor_greedy_answers_is_refused() -> None:
    with pytest.raises(ValidationError, match="evaluates nothing"):
        settings(samples=0, greedy=False)


@pytest.mark.parametrize(("name", "num_problems"), [("default", None), ("fast", 100)])
def test_every_yaml_is_valid(name: str, num_problems: int | None) -> None:
    option = OmegaConf.merge(OmegaConf.load(CONF / "default.yaml"), OmegaConf.load(CONF / f"{name}.yaml"))
    assert isinstance(option, DictConfig)
    option.pop("defaults", None)
    composed = OmegaConf.create({"max_completion_length": 40, "evaluation": option})
    values = OmegaConf.to_container(composed.evaluation, resolve=True)
    assert EvaluationSettings.model_validate(values).num_problems == num_problems


class Bilingual:
    """Works every second problem in Chinese."""

    def generate(self, prompts: list[list[Message]], n: int, sampling: Sampling) -> list[list[Completion]]:
        works = ["We add one to it.", "我们加一。"]
        texts = [
            f"<think>{works[row % 2]}</think>\n<answer>{int(prompt[-1]['content'].split()[0]) + 1}</answer>"
            for row, prompt in enumerate(prompts)
        ]
        return [[Completion(text, num_tokens=9)] * n for text in texts]


def test_mixed_languages_are_counted_where_a_row_names_its_language() -> None:
    def rate(*languages: str | None) -> Any:
        named = [
            replace(problem, columns={} if language is None else {"language": language})
            for problem, language in zip(problems(len(languages)), languages, strict=True)
        ]
        return score(Bilingual(), named, suite(samples=1), seed=0).metrics()["greedy"].get("mixing")

    assert rate("en", "en", "zh", "zh")["value"] == 0.5  # rows 1 and 2
    assert rate("en", "zh")["value"] == 0.0
    found = rate("en", "en", None, "python")  # a programming language is no language of the reasoning
    assert (found["value"], found["n"]) == (0.5, 2)
    assert rate(None, "python") is None
