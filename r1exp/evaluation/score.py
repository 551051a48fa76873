"""Generates answers to held-out problems and judges them.

The answer is the one in the prompt style's format, else the last number of the completion. The judge is that of the
rewards (docs/judgement.md), unless `evaluation.judge` names another one. [sft-grpo] retries with the last number where
the answer in its place does not match: that is `evaluation.judge=accuracy_then_last_number`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from r1exp.errors import Refused
from r1exp.evaluation.judging import Judging
from r1exp.evaluation.outcomes import accuracy
from r1exp.evaluation.settings import EvaluationSettings
from r1exp.judgement.judgement import Judgement
from r1exp.prompt.chat import prompt_of
from r1exp.prompt.settings import PromptSettings
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Reward
from r1exp.rollout.base import Generator, Sampling

Mode = Literal["sampled", "greedy"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One completion with its judgement."""

    problem_id: str
    mode: Mode
    text: str
    answer: str | None  # as the judge read it; None: no answer in the style's format, and no number
    gold: str
    correct: bool
    how: str  # the rule that decided
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
    rewards: Mapping[str, Reward] | None = None,
) -> Scores:
    """Generate and judge answers to the first `settings.num_problems` problems.

    Args:
        generator: Answers the problems.
        problems: The held-out problems; those whose gold answer cannot be read count as answered wrongly.
        prompt: How each problem is presented.
        settings: How many are answered, how often, and who judges.
        seed: Seeds the sampling.
        rewards: The members that `settings.judge=reward` may name.

    Raises:
        Refused: there are no problems, or a problem has no gold answer.
    """
    selected = problems[: settings.num_problems]
    _check_gold(selected)
    prompts = [prompt_of(problem, prompt) for problem in selected]
    outcomes: dict[Mode, list[list[bool]]] = {}
    judged: list[Judged] = []
    judging = Judging(settings.judge, prompt.style, rewards)
    for mode, num_samples, sampling in _modes(settings, seed):
        groups = generator.generate(prompts, num_samples, sampling)
        by_problem = _judged(judging, mode, selected, groups)
        outcomes[mode] = [[each.correct for each in group] for group in by_problem]
        judged += [each for group in by_problem for each in group]
    judging.close()
    return Scores(tuple(problem.id for problem in selected), outcomes, tuple(judged))


def without_unreadable(
    problems: Sequence[Problem],
    style: str,
    settings: EvaluationSettings,
    rewards: Mapping[str, Reward] | None,
) -> tuple[list[Problem], list[str]]:
    """Return the problems whose gold answer can be read, and the ids of the others: the data are at fault, not the model."""
    judging = Judging(settings.judge, style, rewards)
    readable = judging.readable(problems)
    judging.close()
    pairs = list(zip(problems, readable, strict=True))
    return [problem for problem, can in pairs if can], [problem.id for problem, can in pairs if not can]


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


def _judged(
    judging: Judging, mode: Mode, problems: Sequence[Problem], groups: Sequence[Sequence[Completion]]
) -> list[list[Judged]]:
    """Return the judged completions of each problem."""
    rows = [
        (problem, completion) for problem, group in zip(problems, groups, strict=True) for completion in group
    ]
    judgements = judging.judge([problem for problem, _ in rows], [completion for _, completion in rows])
    judged = iter(
        _row(mode, problem, completion, judgement)
        for (problem, completion), judgement in zip(rows, judgements, strict=True)
    )
    return [[next(judged) for _ in group] for group in groups]


def _row(mode: Mode, problem: Problem, completion: Completion, judgement: Judgement) -> Judged:
    return Judged(
        problem_id=problem.id,
        mode=mode,
        text=completion.text,
        answer=judgement.read,
        gold=problem.answer or "",
        correct=judgement.is_correct,
        how=judgement.how,
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
