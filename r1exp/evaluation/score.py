"""Ask a model held-out problems and judge what it answers.

The rule of seed 003: the answer is what stands in the style's answer place, else the last number; it
is right where it is the same exact number as gold, else the same text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from r1exp.errors import Refused
from r1exp.evaluation.outcomes import accuracy
from r1exp.evaluation.settings import EvaluationSettings
from r1exp.prompt.answer import answer_or_last_number, same_answer
from r1exp.prompt.chat import messages
from r1exp.prompt.settings import PromptSettings
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rollout.base import Generator, Sampling

Mode = Literal["sampled", "greedy"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One completion and what was made of it."""

    problem_id: str
    mode: Mode
    text: str
    answer: str | None  # as read; None: no answer place and no number
    gold: str
    correct: bool
    num_tokens: int
    finished: bool  # False: cut at the length limit


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model answered to each problem, by mode; outcomes are a bool per problem and sample."""

    problem_ids: tuple[str, ...]
    outcomes: dict[Mode, list[list[bool]]]
    judged: tuple[Judged, ...]

    def summary(self) -> dict[str, dict[str, float]]:
        """Return value, n (problems), low and high of the accuracy of each mode."""
        return {mode: asdict(accuracy(outcomes)) for mode, outcomes in self.outcomes.items()}

    def to_json(self) -> dict[str, Any]:
        """Return what a later comparison needs: the summary, the problems and the outcomes."""
        return {
            "summary": self.summary(),
            "problem_ids": list(self.problem_ids),
            "outcomes": self.outcomes,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one JSON-able row a completion."""
        yield from map(asdict, self.judged)


def score(
    generator: Generator,
    problems: Sequence[Problem],
    prompt: PromptSettings,
    settings: EvaluationSettings,
    seed: int,
) -> Scores:
    """Ask the first `settings.num_problems` problems and judge the answers; `seed` decides the sampling.

    Raises Refused where there is no problem, or a problem without a gold answer.
    """
    asked = problems[: settings.num_problems]
    _check_gold(asked)
    prompts = [messages(problem.prompt, prompt) for problem in asked]
    outcomes: dict[Mode, list[list[bool]]] = {}
    judged: list[Judged] = []
    for mode, num_samples, sampling in _modes(settings, seed):
        groups = generator.generate(prompts, num_samples, sampling)
        by_problem = [
            [_judge(problem, completion, prompt, mode) for completion in group]
            for problem, group in zip(asked, groups, strict=True)
        ]
        outcomes[mode] = [[each.correct for each in group] for group in by_problem]
        judged += [each for group in by_problem for each in group]
    return Scores(tuple(problem.id for problem in asked), outcomes, tuple(judged))


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
        raise Refused("there is no held-out problem to measure on; choose a dataset with a test split")
    without = [problem.id for problem in problems if not (problem.answer or "").strip()]
    if without:
        raise Refused(
            f"{len(without)} held-out problems have no gold answer, e.g. {without[0]!r}; every one needs an "
            "answer to be measured; add the answers or leave these problems out"
        )
