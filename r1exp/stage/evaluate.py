"""Settings of stage=evaluate. The work is in `r1exp.stage.measure`."""

from collections.abc import Iterator
from typing import Any, Literal

from r1exp.dataset.base import Dataset
from r1exp.errors import Refused
from r1exp.evaluation.settings import DURING_TRAINING, Suite
from r1exp.files import hash_of
from r1exp.rewards.advice import evaluating_member
from r1exp.stage.base import GENERATION_READS, Config, Stage, smallest
from r1exp.stage.step_settings import StepSettings


class Evaluate(Stage):
    """Evaluates a model on held-out problems, as set by `evaluation`."""

    kind: Literal["evaluate"]

    work = "r1exp.stage.measure:measure"
    makes = "scores"
    reads = GENERATION_READS
    may_read = frozenset({"rewards"})  # the judge may be a member of the rewards
    generates = True
    split = "test"

    def longest_completion(self, config: StepSettings) -> tuple[str, int]:
        """Return the largest limit of the suites' completions."""
        longest = max(_suites(config), key=lambda suite: suite.max_tokens)
        return config.evaluation.name_of(longest.name, "max_tokens"), longest.max_tokens

    def data_sets(self, config: StepSettings) -> list[Dataset]:
        """Return the data sets of the suites."""
        return [suite.dataset for suite in _suites(config)]

    def pinned(self, config: Config) -> Config:
        """Return the settings with commits instead of branches, of all data sets that a suite reads."""
        evaluation = config.evaluation.pinned()
        reads_own = not evaluation.suites or any(
            suite.dataset is None for suite in evaluation.suites.values()
        )
        dataset = config.dataset.pinned() if reads_own else config.dataset
        return config.model_copy(update={"dataset": dataset, "evaluation": evaluation})

    def fingerprint(self, config: StepSettings) -> str:
        """Return a content hash of the problems of all suites."""
        if not config.evaluation.suites:
            return super().fingerprint(config)
        return hash_of([suite.dataset.fingerprint_of(self.split) for suite in _suites(config)])

    def own_settings(self, config: StepSettings) -> dict[str, Any]:
        """Return how problems are answered, and how many; not when a pipeline evaluates."""
        evaluation = config.evaluation.model_dump(
            mode="json", exclude={*DURING_TRAINING, "before", "after", "suites"}
        )
        if config.evaluation.suites:
            evaluation = {"suites": [suite.deciding_settings() for suite in _suites(config)]}
        by_member = any(suite.judge == "reward" for suite in _suites(config))
        member = evaluating_member(config.rewards) if by_member else None
        rewards = config.model_dump(mode="json", include={"rewards"})["rewards"]
        judge = {} if member is None else {"judged_by": rewards[member]}
        committee = {"committee": rewards} if config.evaluation.best_of else {}
        return self.model_dump(mode="json") | {"evaluation": evaluation} | judge | committee

    def count(self, config: StepSettings) -> int | None:
        """Return how many problems the suites have together, those beyond a suite's limit left out."""
        if not config.evaluation.suites:
            return super().count(config)
        numbers = [_number(suite, suite.dataset.count(self.split)) for suite in _suites(config)]
        return None if None in numbers else sum(number or 0 for number in numbers)

    def check_data(self, config: StepSettings, num_problems: int | None) -> int | None:
        """Return how many problems there are.

        Raises:
            Refused: a suite's data set has no answers, or best@k has no rewards.
        """
        for name, suite in config.evaluation.suites.items():
            if suite.dataset is not None and not suite.dataset.has_answers:
                raise Refused(
                    f"evaluation.suites.{name}.dataset: a data set of kind {suite.dataset.kind} has no gold answers, so "
                    "that a model cannot be evaluated on it; choose another one"
                )
        if config.evaluation.best_of and config.rewards is None:
            raise Refused(
                "evaluation.best_of=true takes the best answer by the rewards, and there are none; choose some, for example "
                "rewards=graded, or leave best_of out"
            )
        return num_problems

    def describe(self, config: StepSettings, num_problems: int | None) -> str:
        """Return how many problems are measured, and how."""
        if config.evaluation.suites:
            return self._describe_suites(config, num_problems)
        number = smallest(config.evaluation.num_problems, num_problems)
        problems = "all" if number is None else f"{number:,}"
        return f"{problems} test problems, {_decodings(_suites(config)[0])} each"

    def details(self, config: StepSettings) -> Iterator[str]:
        """Yield a line for each suite: its problems, decodings, completions and the most tokens that they take."""
        for suite in _suites(config):
            number = _number(suite, suite.dataset.count(self.split))
            top_p = f", top_p {suite.top_p:g}" if suite.top_p < 1.0 else ""
            sampled = f" (sampled at temperature {suite.temperature:g}{top_p})" if suite.samples else ""
            text = f"suite {suite.name}: {'all' if number is None else f'{number:,}'} problems x {_decodings(suite)}{sampled}"
            if number is not None:
                completions = number * suite.completions_per_problem
                text += f" = {completions:,} completions of at most {suite.max_tokens:,} tokens: {_tokens(completions * suite.max_tokens)}"
            yield f"{text}; judge {suite.judge}"

    def _describe_suites(self, config: StepSettings, num_problems: int | None) -> str:
        suites = _suites(config)
        numbers = [_number(suite, suite.dataset.count(self.split)) for suite in suites]
        data = " + ".join(
            f"{suite.name}{'' if number is None else f' {number:,}'}"
            for suite, number in zip(suites, numbers, strict=True)
        )
        if num_problems is None:
            return f"{data}, counted when they are here"
        pairs = [
            (suite.completions_per_problem * (number or 0), suite.max_tokens)
            for suite, number in zip(suites, numbers, strict=True)
        ]
        completions = sum(number for number, _ in pairs)
        return (
            f"{data}, {completions:,} completions of {_tokens(sum(number * most for number, most in pairs))}"
        )


def _suites(config: StepSettings) -> tuple[Suite, ...]:
    return config.evaluation.resolved(config.dataset, config.prompt)


def _number(suite: Suite, found: int | None) -> int | None:
    """Return how many problems of a suite are answered; None: not known yet."""
    return None if found is None else smallest(suite.num_problems, found)


def _decodings(suite: Suite) -> str:
    sampled = [f"{suite.samples} sampled"] if suite.samples else []
    greedy = ["1 greedy"] if suite.greedy else []
    return " + ".join([*sampled, *greedy])


def _tokens(number: int) -> str:
    """Return an upper bound of tokens as a person reads it."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"at most {number / size:.3g} {unit} tokens"
    return f"at most {number} tokens"
