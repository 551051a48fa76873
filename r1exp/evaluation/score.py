"""Generates answers to the held-out problems of a suite and judges them.

The answer is the one in the prompt style's format, else the last number of the completion. The judge is that of the
rewards (docs/judgement.md), unless `evaluation.judge` names another one. [sft-grpo] retries with the last number where
the answer in its place does not match: that is `evaluation.judge=accuracy_then_last_number`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast, get_args

from r1exp.errors import Refused
from r1exp.evaluation.judging import Judging
from r1exp.evaluation.metrics import Judged, Metrics, Mode, metrics_of
from r1exp.evaluation.settings import Suite
from r1exp.prompt.chat import prompt_of
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Message, Problem
from r1exp.rewards.base import Context, Reward
from r1exp.rewards.committee import Committee
from r1exp.rewards.language_consistency import Language, LanguageConsistency
from r1exp.rollout.base import Generator, Sampling

_SCORED_AT_ONCE = 512  # completions that the committee gets in one batch


@dataclass(frozen=True, slots=True)
class Scores:
    """The judged answers of a model to a suite; by decoding, those of each problem."""

    suite: str
    problem_ids: tuple[str, ...]
    judged: dict[Mode, list[list[Judged]]]

    @property
    def outcomes(self) -> dict[Mode, list[list[bool]]]:
        """By decoding, a bool per problem and sample."""
        return {
            mode: [[row.correct for row in group] for group in rows] for mode, rows in self.judged.items()
        }

    def metrics(self) -> dict[str, Metrics]:
        """Return the metrics of each decoding."""
        return {mode: metrics_of(groups) for mode, groups in self.judged.items()}

    def summary(self) -> dict[str, dict[str, float]]:
        """Return value, n (problems), low and high of the accuracy of each decoding."""
        return {mode: metrics["accuracy"] for mode, metrics in self.metrics().items()}

    def to_json(self) -> dict[str, Any]:
        """Return the metrics, and the problems and outcomes that a later comparison needs."""
        return {
            "metrics": self.metrics(),
            "problem_ids": list(self.problem_ids),
            "outcomes": self.outcomes,
        }

    def by_problem(self) -> Iterator[list[Judged]]:
        """Yield the completions of each problem, of all decodings."""
        for groups in zip(*self.judged.values(), strict=True):
            yield [row for group in groups for row in group]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one JSON-serializable row per completion."""
        for groups in self.judged.values():
            yield from (asdict(row) for group in groups for row in group)


def score(
    generator: Generator,
    problems: Sequence[Problem],
    suite: Suite,
    seed: int,
    rewards: Mapping[str, Reward] | None = None,
    committee: Committee | None = None,
    count_tokens: Callable[[list[Message]], int] | None = None,
) -> Scores:
    """Generate and judge answers to the first `suite.num_problems` problems.

    Args:
        generator: Answers the problems.
        problems: The held-out problems; those whose gold answer cannot be read count as answered wrongly.
        suite: How each problem is presented, how many are answered, how often, and who judges.
        seed: Seeds the sampling.
        rewards: The members that `suite.judge=reward` may name.
        committee: Scores the sampled answers, for best@k; None: they have no rewards.
        count_tokens: Returns the tokens of a prompt; None: they are not known.

    Raises:
        Refused: there are no problems, or a problem has no gold answer.
    """
    selected = problems[: suite.num_problems]
    _check_gold(selected)
    prompts = [prompt_of(problem, suite.prompt) for problem in selected]
    lengths = [None if count_tokens is None else count_tokens(prompt) for prompt in prompts]
    judging = Judging(suite.judge, suite.prompt.style, rewards)
    found: dict[Mode, list[list[Judged]]] = {}
    for mode, num_samples, sampling in _modes(suite, seed):
        groups = generator.generate(prompts, num_samples, sampling)
        judged = _judged(judging, suite, mode, selected, lengths, groups)
        found[mode] = (
            judged
            if committee is None or mode == "greedy"
            else _rewarded(committee, selected, groups, judged)
        )
    judging.close()
    return Scores(suite.name, tuple(problem.id for problem in selected), found)


def without_unreadable(
    problems: Sequence[Problem], suite: Suite, rewards: Mapping[str, Reward] | None
) -> tuple[list[Problem], list[str]]:
    """Return the problems whose gold answer can be read, and the ids of the others: the data are at fault, not the model."""
    judging = Judging(suite.judge, suite.prompt.style, rewards)
    readable = judging.readable(problems)
    judging.close()
    pairs = list(zip(problems, readable, strict=True))
    return [problem for problem, can in pairs if can], [problem.id for problem, can in pairs if not can]


def _modes(suite: Suite, seed: int) -> Iterator[tuple[Mode, int, Sampling]]:
    if suite.samples > 0:
        yield (
            "sampled",
            suite.samples,
            Sampling(
                temperature=suite.temperature, top_p=suite.top_p, max_tokens=suite.max_tokens, seed=seed
            ),
        )
    if suite.greedy:
        yield "greedy", 1, Sampling(temperature=0.0, max_tokens=suite.max_tokens, seed=seed)


def _judged(
    judging: Judging,
    suite: Suite,
    mode: Mode,
    problems: Sequence[Problem],
    lengths: Sequence[int | None],
    groups: Sequence[Sequence[Completion]],
) -> list[list[Judged]]:
    """Return the judged completions of each problem."""
    asked = [
        (problem, length, sample)
        for problem, length, group in zip(problems, lengths, groups, strict=True)
        for sample in range(len(group))
    ]
    repeated = [problem for problem, _, _ in asked]
    flat = [completion for group in groups for completion in group]
    judgements = judging.judge(repeated, flat)
    reads = judging.reads_answers
    exact = judging.exact(flat, judgements) if reads else [None] * len(flat)
    plausible = judging.plausible(repeated, flat, judgements) if reads else [None] * len(flat)
    style = style_named(suite.prompt.style)
    languages = [_language(problem, suite) for problem in repeated]
    judged = iter(
        Judged(
            suite=suite.name,
            problem_id=problem.id,
            mode=mode,
            prompt=problem.text,
            sample=sample,
            text=completion.text,
            answer=judgement.read,
            gold=problem.answer or "",
            correct=judgement.is_correct,
            how=judgement.how,
            exact=is_exact,
            plausible=is_plausible,
            format=style.follows(completion.text),
            num_tokens=completion.num_tokens,
            finished=completion.finished,
            input_tokens=length,
            mixed=None if language is None else language.mixes(completion.text),
        )
        for (problem, length, sample), completion, judgement, is_exact, is_plausible, language in zip(
            asked, flat, judgements, exact, plausible, languages, strict=True
        )
    )
    return [[next(judged) for _ in group] for group in groups]


def _language(problem: Problem, suite: Suite) -> LanguageConsistency | None:
    """Return what finds words in another language than that of the column `language`; None: it is no natural language."""
    language = problem.columns.get("language")
    if language not in get_args(Language):
        return None
    return LanguageConsistency(style=suite.prompt.style, language=cast("Language", language))


def _rewarded(
    committee: Committee,
    problems: Sequence[Problem],
    groups: Sequence[Sequence[Completion]],
    judged: Sequence[Sequence[Judged]],
) -> list[list[Judged]]:
    """Return the judged completions with the committee's rewards; the completions of a problem are one group."""
    size = max(1, _SCORED_AT_ONCE // max(1, len(groups[0])))
    found: list[list[Judged]] = []
    for start in range(0, len(problems), size):
        batch = slice(start, start + size)
        repeated = [
            problem for problem, group in zip(problems[batch], groups[batch], strict=True) for _ in group
        ]
        flat = [completion for group in groups[batch] for completion in group]
        _, totals = committee.totals(repeated, flat, Context())
        rewards = iter(totals)
        found += [[replace(row, reward=next(rewards)) for row in group] for group in judged[batch]]
    return found


def _check_gold(problems: Sequence[Problem]) -> None:
    if not problems:
        raise Refused("there are no held-out problems to evaluate on; choose a dataset with a test split")
    without = [problem.id for problem in problems if not (problem.answer or "").strip()]
    if without:
        raise Refused(
            f"{len(without)} held-out problems have no gold answer, e.g. {without[0]!r}; every problem needs one to "
            "be evaluated; add the answers or leave these problems out"
        )
