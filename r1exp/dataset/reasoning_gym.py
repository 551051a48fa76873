"""Problems of reasoning-gym, whose generators and scorers are the library's own.

Every problem is generated from its task, the settings and a seed. Its row names them (`gym_task`, `gym_seed`,
`gym_index`, `gym_size`), so that the reward can make the library's entry again, which scorers read. No question is in
both splits, or twice in one.

Source: Reasoning Gym (arXiv:2505.24760), https://github.com/open-thought/reasoning-gym.
"""

import json
import random
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from r1exp.dataset.base import SPLITS, Dataset, Split
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.records import Problem
from r1exp.settings import Settings, nearest

_PACKAGE = "reasoning-gym"
_SEED_OF_TEST = 2**31  # added to the seed of the test split, so that its tasks are generated from another one
_MOST_DRAWN = 20  # entries that are generated for each problem before a task counts as too small


class GymTask(Settings):
    """One task of the library."""

    weight: PositiveFloat = 1.0  # share of the problems, relative to the other tasks
    config: dict[str, Any] = Field(default_factory=dict)  # what the task's configuration class takes


class ReasoningGym(Dataset):
    """Generated problems of one or several tasks."""

    kind: Literal["reasoning_gym"]
    tasks: Annotated[
        dict[str, GymTask], Field(min_length=1)
    ]  # name of the library's task: its share and settings
    seed: NonNegativeInt  # of every problem
    num_train: PositiveInt  # problems, all different
    num_test: PositiveInt  # problems, all different, none of them in the training split

    def load(self, split: Split) -> list[Problem]:
        """Return the problems of one split.

        Raises:
            Refused: the library is not installed, it has no such task or setting, or a task has too few problems.
        """
        train = self._generated("train", set())
        return train if split == "train" else self._generated("test", {problem.prompt for problem in train})

    def count(self, split: Split) -> int:
        """Return the number of problems, without generating them."""
        return self.num_train if split == "train" else self.num_test

    def check_source(self) -> None:
        """Raise Refused if the library is not installed or does not take the settings."""
        for task, settings in self.tasks.items():
            gym_entry(task, settings.config, self.seed, 1, 0)

    def fingerprint(self) -> str:
        """Return a hash of the settings and of the library's version, which decide every problem."""
        return hash_of([self.model_dump(), _version(), SPLITS])

    def _generated(self, split: Split, excluded: set[str]) -> list[Problem]:
        names = list(self.tasks)
        weights = [self.tasks[name].weight for name in names]
        draw = random.Random(f"{split} {self.seed}")
        size = _MOST_DRAWN * self.count(split)
        seed = self.seed + (_SEED_OF_TEST if split == "test" else 0)
        next_index = dict.fromkeys(names, 0)
        problems: dict[str, Problem] = {}  # by question
        while len(problems) < self.count(split):
            [name] = draw.choices(names, weights)
            problem = None
            while problem is None or problem.prompt in problems or problem.prompt in excluded:
                if next_index[name] == size:
                    raise Refused(
                        f"the task {name} of reasoning-gym gives too few different problems: {len(problems)} of "
                        f"{self.count(split)} for {split}; lower dataset.num_{split}, or widen dataset.tasks.{name}.config"
                    )
                problem = self._problem(split, len(problems), name, seed, next_index[name], size)
                next_index[name] += 1
            problems[problem.prompt] = problem
        return list(problems.values())

    def _problem(self, split: Split, number: int, name: str, seed: int, index: int, size: int) -> Problem:
        config = self.tasks[name].config
        entry = gym_entry(name, config, seed, size, index)
        if entry["answer"] is None:
            raise Refused(
                f"the task {name} of reasoning-gym has no reference answers, so nothing could check its rewards; "
                "take another task"
            )
        columns = {
            "gym_task": name,
            "gym_config": json.dumps(config, sort_keys=True),
            "gym_seed": seed,
            "gym_size": size,
            "gym_index": index,
        }
        return Problem(f"{split}-{number:05d}", entry["question"].strip(), str(entry["answer"]), columns)


def gym_entry(task: str, config: Mapping[str, Any], seed: int, size: int, index: int) -> dict[str, Any]:
    """Return an entry of the library: question, answer and metadata.

    Args:
        task: Name of the library's task.
        config: Settings of the task.
        seed: Of its problems.
        size: Number of problems; some tasks depend on it.
        index: Of the problem.

    Raises:
        Refused: the library is not installed, or has no such task or setting.
    """
    entry: dict[str, Any] = dict(_task(task, json.dumps(config, sort_keys=True), seed, size)[index])
    return entry


@lru_cache(maxsize=64)
def _task(task: str, config: str, seed: int, size: int) -> Any:
    _version()
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if task not in DATASETS:
        close = nearest(task, DATASETS)
        hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(DATASETS))}"
        raise Refused(f"reasoning-gym has no task {task!r}{hint}")
    try:
        return reasoning_gym.create_dataset(task, seed=seed, size=size, **json.loads(config))
    except (TypeError, AssertionError, ValueError) as error:
        raise Refused(f"dataset.tasks.{task}.config is refused by reasoning-gym: {error}") from error


def _version() -> str:
    """Return the version of the library. Raises Refused if it is not installed."""
    try:
        return version(_PACKAGE)
    except PackageNotFoundError as error:
        raise Refused("dataset=reasoning_gym needs a library: pip install 'r1exp[reasoning_gym]'") from error
