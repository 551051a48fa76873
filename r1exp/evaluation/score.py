"""Generates answers to held-out problems and judges them.

The rule is that of [sft-grpo]: the answer is the one in the prompt style's format, else the last number of the
completion. It is correct if it is exactly the same number as the gold answer, else if it is the same text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from r1exp.errors import Refused
from r1exp.evaluation.outcomes import accuracy
from r1exp.evaluation.settings import EvaluationSettings
from r1exp.prompt.answer import answer_or_last_number, same_answer
from r1exp.prompt.chat import prompt_of
from r1exp.prompt.settings import PromptSettings
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rollout.base import Generator, Sampling

Mode = Literal["sampled", "greedy"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One completion with its judgement."""

    problem_id: str
    mode: Mode
    text: str
    answer: str | None  # as read from the text; None: no answer in the style's format, and no number
    gold: str
    correct: bool
    num_tokens: int
    finished: bool  # False: truncated at the length limit


@dataclass(frozen=True, slots=True)
class Scores:
    """The judged answers of a model, by mode; outcomes are a bool per problem and sample."""

    problem_ids: tuple[str, ...]
    outcomes: dict[Mode, list[list[bool]]]
    judged: tuple[Judged, ...]

    def summary(self) -> dict[str, dict[str, float]]:
        """Return value, n (problems), low and high of the accuracy of each mode."""
        return {mode: asdict(accuracy(outcomes)) for mode, outcomes in self.outcomes.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the summary, and the problems and outcomes that a later comparison needs."""
        return {
            "summary": self.summary(),
            "problem_ids": list(self.problem_ids),
            "outcomes": self.outcomes,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one JSON-serializable row per completion."""
        yield from map(asdict, self.judged)


def score(
    generator: Generator,
    problems: Sequence[Problem],
    prompt: PromptSettings,
    settings: EvaluationSettings,
    seed: int,
) -> Scores:
    """Generate and judge answers to the first `settings.num_problems` problems; `seed` seeds the sampling.

    Raises:
        Refused: there are no problems, or a problem has no gold answer.
    """
    selected = problems[: settings.num_problems]
    _check_gold(selected)
    prompts = [prompt_of(problem, prompt) for problem in selected]
    outcomes: dict[Mode, list[list[bool]]] = {}
    judged: list[Judged] = []
    for mode, num_samples, sampling in _modes(settings, seed):
        groups = generator.generate(prompts, num_samples, sampling)
        by_problem = [
            [_judge(problem, completion, prompt, mode) for completion in group]
            for problem, group in zip(selected, groups, strict=True)
        ]
        outcomes[mode] = [[each.correct for each in group] for group in by_problem]
        judged += [each for group in by_problem for each in group]
    return Scores(tuple(problem.id for problem in selected), outcomes, tuple(judged))


def _modes(settings: EvaluationSettings, seed: int) -> Iterator[tuple[Mode, int, Sampling]]:
    if settings.samples > 0:
        yield (
            "sampled",
            settings.samples,
            Sampling(
                temperature=settings.temperature,
                top_p=settings.top_p,
                max_tokens=settings.max_tokens,
                seed=seed,
            ),
        )
    if settings.greedy:
        yield "greedy", 1, Sampling(temperature=0.0, max_tokens=settings.max_tokens, seed=seed)


def _judge(problem: Problem, completion: Completion, prompt: PromptSettings, mode: Mode) -> Judged:
    gold = problem.answer or ""
    answer = answer_or_last_number(style_named(prompt.style), completion.text)
    return Judged(
        problem_id=problem.id,
        mode=mode,
        text=completion.text,
        answer=answer,
        gold=gold,
        correct=same_answer(answer, gold),
        num_tokens=completion.num_tokens,
        finished=completion.finished,
    )


def _check_gold(problems: Sequence[Problem]) -> None:
    if not problems:
        raise Refused("there are no held-out problems to evaluate on; choose a dataset with a test split")
    without = [problem.id for problem in problems if not (problem.answer or "").strip()]
    if without:
        raise Refused(
            f"{len(without)} held-out problems have no gold answer, e.g. {without[0]!r}; every problem needs one to "
            "be evaluated; add the answers or leave these problems out"
        )
