"""Settings of stage=evaluate. The work is in `r1exp.stage.measure`."""

from collections.abc import Iterator
from typing import Any, Literal

from r1exp.dataset.base import Dataset
from r1exp.errors import Refused
from r1exp.evaluation.harness import refuse_missing, version_of
from r1exp.evaluation.settings import DURING_TRAINING, Suite
from r1exp.files import hash_of
from r1exp.rewards.advice import evaluating_member
from r1exp.stage.base import GENERATION_READS, Config, Stage, resolved_path, smallest
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
        longest = max(_suites(config), key=lambda suite: suite.max_tokens, default=None)
        if longest is None:
            return super().longest_completion(config)
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
        if not config.evaluation.suites and config.evaluation.harness is None:
            return super().fingerprint(config)
        return hash_of([suite.dataset.fingerprint_of(self.split) for suite in _suites(config)])

    def own_settings(self, config: StepSettings) -> dict[str, Any]:
        """Return how problems are answered, and how many; not when a pipeline evaluates."""
        evaluation = config.evaluation.model_dump(
            mode="json", exclude={*DURING_TRAINING, "before", "after", "suites"}
        )
        if config.evaluation.suites or config.evaluation.harness is not None:
            evaluation = {"suites": [suite.deciding_settings() for suite in _suites(config)]}
        if config.evaluation.harness is not None:
            evaluation["harness"] = self._harness_settings(config)
        by_member = any(suite.judge == "reward" for suite in _suites(config))
        member = evaluating_member(config.rewards) if by_member else None
        rewards = config.model_dump(mode="json", include={"rewards"})["rewards"]
        judge = {} if member is None else {"judged_by": rewards[member]}
        committee = {"committee": rewards} if config.evaluation.best_of else {}
        return self.model_dump(mode="json") | {"evaluation": evaluation} | judge | committee

    @staticmethod
    def _harness_settings(config: StepSettings) -> dict[str, Any]:
        """Return what decides the results of a harness; its tasks file counts with its content."""
        evaluation = config.evaluation
        assert evaluation.harness is not None
        return {
            "name": evaluation.harness,
            "version": version_of(evaluation.harness, evaluation.harness_python),
            "tasks": evaluation.tasks,
            "tasks_path": evaluation.tasks_path,
            "num_problems": evaluation.num_problems,
            "dtype": config.model.compute_dtype,
        }

    def count(self, config: StepSettings) -> int | None:
        """Return how many problems the suites have together, those beyond a suite's limit left out; of a harness, None."""
        if config.evaluation.harness is not None and not config.evaluation.suites:
            return None
        if not config.evaluation.suites:
            return super().count(config)
        numbers = [_number(suite, suite.dataset.count(self.split)) for suite in _suites(config)]
        return None if None in numbers else sum(number or 0 for number in numbers)

    def check_data(self, config: StepSettings, num_problems: int | None) -> int | None:
        """Return how many problems there are.

        Raises:
            Refused: a suite's data set has no answers, best@k has no rewards, or a harness cannot use the rollout.
        """
        self._check_rollout(config)
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

    @staticmethod
    def _check_rollout(config: StepSettings) -> None:
        harness, rollout = config.evaluation.harness, config.rollout
        if harness is None or not (rollout.is_remote or rollout.uses_vllm):
            return
        if harness == "lm_eval" and rollout.server is not None:
            return
        choices = "rollout=hf or rollout=vllm_server" if harness == "lm_eval" else "rollout=hf"
        raise Refused(f"evaluation.harness={harness} cannot use rollout={rollout.kind}; choose {choices}")

    def refuse_unready(self, config: StepSettings) -> None:
        """Raise Refused if the harness is not installed, or there is no file of tasks."""
        evaluation = config.evaluation
        if evaluation.harness is None:
            return
        refuse_missing(evaluation.harness, evaluation.harness_python)
        if evaluation.tasks_path is not None and not resolved_path(evaluation.tasks_path).exists():
            raise Refused(f"evaluation.tasks_path={evaluation.tasks_path}: there is no such file or folder")

    def describe(self, config: StepSettings, num_problems: int | None) -> str:
        """Return how many problems are measured, and how."""
        evaluation = config.evaluation
        tasks = f"tasks of {evaluation.harness}: {' '.join(evaluation.tasks)}"
        if not _suites(config):
            return f"{tasks}, generated and judged by the harness"
        harness = "" if evaluation.harness is None else f"; {tasks}"
        if evaluation.suites:
            return self._describe_suites(config, num_problems) + harness
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
        evaluation = config.evaluation
        if evaluation.harness is not None:
            version = version_of(evaluation.harness, evaluation.harness_python) or "not installed"
            limit = "all" if evaluation.num_problems is None else f"the first {evaluation.num_problems:,}"
            yield f"harness {evaluation.harness} ({version}): {' '.join(evaluation.tasks)}, {limit} problems of each"

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
