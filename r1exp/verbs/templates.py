"""Texts of the files that `r1exp new` writes, for `string.Template`.

Placeholders: `$name`, the name that was typed; `$class_name`, the class in NAME.py. `$$` is one dollar sign.
"""

from dataclasses import dataclass
from string import Template


@dataclass(frozen=True)
class Kind:
    """What `r1exp new` writes for one kind of option."""

    group: str  # config group of the YAML
    suffix: str  # of the class name, so that it differs from the names that the module imports
    module: Template | None  # NAME.py; None: the YAML needs no code
    yaml: Template
    test: Template
    commands: tuple[str, ...]  # verbs to type next, with the new option


_REWARD = Template('''\
"""Scores `points` for an answer that has the text of the gold answer, and 0 for any other."""

from typing import ClassVar

from pydantic import PositiveFloat
from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, Context, Reward, Score, Span


class $class_name(Reward):
    """`points` for the right answer, else 0."""

    style: StyleName  # prompt style, which decides where the answer is read
    points: PositiveFloat  # score of a right answer
    judges_correctness: ClassVar[bool] = True  # a gold answer must score the maximum; `r1exp check` tests it

    @property
    def span(self) -> Span:
        """The lowest and the highest score."""
        return (0.0, self.points)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        """Return the score of one completion, or why there is none."""
        if problem.answer is None:
            return NO_GOLD
        answer = style_named(self.style).read_answer(completion.text)
        return self.points if answer == problem.answer else 0.0
''')

_REWARD_YAML = Template("""\
# One reward: points for the right answer. A second entry in this file adds a second reward.
# Source: written by `r1exp new reward $name`.
#   r1exp check --config-dir conf rewards=$name
$name:
  kind: $name:$class_name
  weight: 1.0             # factor in the total; 0: logged only
  style: $${prompt.style}  # the style of the prompt
  points: 1.0             # score of a right answer
""")

_REWARD_TEST = Template('''\
"""Tests of the reward $name."""

from pathlib import Path

import pytest
from r1exp.__main__ import main
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context

from $name import $class_name

REWARD = $class_name(kind="$name:$class_name", style="think_answer", points=2.0)


@pytest.mark.parametrize(("answer", "score"), [("5", 2.0), ("6", 0.0), ("", 0.0)])
def test_only_the_right_answer_scores(answer: str, score: float) -> None:
    completion = Completion(f"<think>2+3</think><answer>{answer}</answer>", num_tokens=8)
    assert REWARD.score(Problem("1", "2+3?", answer="5"), completion, Context()) == score


def test_gold_answers_score_the_maximum_and_cheats_do_not() -> None:
    conf = Path(__file__).parent / "conf"
    assert main(["check", "--config-dir", str(conf), "rewards=$name"]) == 0
''')

_DATASET = Template('''\
"""Problems that ask for twice a number."""

from pydantic import PositiveInt
from r1exp.dataset.base import Dataset, Split
from r1exp.files import hash_of
from r1exp.records import Problem


class $class_name(Dataset):
    """The numbers from 1 on: first those of the training problems, then those of the test problems."""

    num_train: PositiveInt  # problems
    num_test: PositiveInt  # problems

    def load(self, split: Split) -> list[Problem]:
        """Return the problems of one split, always in the same order."""
        first, num_problems = (1, self.num_train) if split == "train" else (1 + self.num_train, self.num_test)
        return [_problem(number) for number in range(first, first + num_problems)]

    def fingerprint(self) -> str:
        """Return a hash that changes with the problems; steps that read other problems run again."""
        problems = self.load("train") + self.load("test")
        return hash_of([[problem.prompt, problem.answer] for problem in problems])


def _problem(number: int) -> Problem:
    double = str(2 * number)
    return Problem(
        id=f"double-{number}",
        prompt=f"What is {number} and {number} in total?",
        answer=double,  # the gold answer; rewards and evaluation compare with it
        columns={"solution": f"{number}+{number}={double}"},  # worked reasoning, which SFT trains on
    )
''')

_DATASET_YAML = Template("""\
# Problems of your own: twice a number.
# Source: written by `r1exp new dataset $name`.
#   r1exp plan --config-dir conf dataset=$name
kind: $name:$class_name
num_train: 500  # problems
num_test: 100   # problems
""")

_DATASET_TEST = Template('''\
"""Tests of the data set $name."""

from pathlib import Path

from r1exp.__main__ import main

from $name import $class_name

DATASET = $class_name(kind="$name:$class_name", num_train=20, num_test=10)


def test_the_splits_have_the_stated_sizes_and_share_no_problem() -> None:
    train, test = DATASET.load("train"), DATASET.load("test")
    assert (len(train), len(test)) == (20, 10)
    assert not {problem.prompt for problem in train} & {problem.prompt for problem in test}


def test_every_problem_has_an_answer_and_a_worked_solution() -> None:
    assert all(problem.answer and problem.columns["solution"] for problem in DATASET.load("train"))


def test_the_fingerprint_changes_with_the_problems() -> None:
    assert DATASET.fingerprint() == DATASET.model_copy().fingerprint()
    assert DATASET.fingerprint() != DATASET.model_copy(update={"num_train": 21}).fingerprint()


def test_a_run_with_it_can_be_planned() -> None:
    conf = Path(__file__).parent / "conf"
    assert main(["plan", "--config-dir", str(conf), "dataset=$name"]) == 0
''')

_PROMPT = Template('''\
"""A prompt style: the reasoning and the answer, each in a pair of tags."""

from r1exp.prompt.style import Tagged

STYLE = Tagged("$name", ("<work>", "</work>", "<result>", "</result>"))
''')

_PROMPT_YAML = Template("""\
# Reasoning in <work>, the answer in <result>.
# Source: written by `r1exp new prompt $name`.
#   r1exp plan --config-dir conf prompt=$name
style: $name:STYLE
system: |-
  Work out the problem, then give the result. Respond in the following format:
  <work>...</work>
  <result>...</result>
""")

_PROMPT_TEST = Template('''\
"""Tests of the prompt $name."""

from pathlib import Path

from r1exp.__main__ import main

from $name import STYLE


def test_the_answer_and_the_reasoning_are_read_from_a_completion() -> None:
    text = STYLE.write("2+3=5", "5")
    assert STYLE.follows(text)
    assert STYLE.read_answer(text) == "5"
    assert STYLE.read_reasoning(text) == "2+3=5"


def test_text_without_the_tags_does_not_follow_the_style() -> None:
    assert not STYLE.follows("The answer is 5")


def test_a_run_with_it_can_be_planned() -> None:
    conf = Path(__file__).parent / "conf"
    assert main(["plan", "--config-dir", str(conf), "prompt=$name"]) == 0
''')

_ALGORITHM = Template('''\
"""GRPO with other advantages: the reward minus the mean reward of the group.

The top of this file does not import torch, because `r1exp plan` reads it too.
"""

from typing import Any

from r1exp.algorithm.grpo import Grpo


class $class_name(Grpo):
    """GRPO without the division by the standard deviation of the group."""

    def advantages(self, rewards: Any, num_generations: int) -> Any:
        """Return the advantages.

        Args:
            rewards: Weighted rewards, tensor (N,); NaN where no reward could score.
            num_generations: Completions per prompt; the completions of one prompt are neighbors in `rewards`.

        Returns:
            Tensor (N,); NaN counts as 0.
        """
        groups = rewards.view(-1, num_generations)
        return (groups - groups.nanmean(dim=1, keepdim=True)).flatten()
''')

_ALGORITHM_YAML = Template("""\
# @package _global_
# GRPO with advantages of your own; everything else as in algorithm=grpo.
# Source: written by `r1exp new algorithm $name`.
#   r1exp plan --config-dir conf algorithm=$name
defaults:
  - grpo
  - _self_
algorithm:
  kind: $name:$class_name
""")

_ALGORITHM_TEST = Template('''\
"""Tests of the algorithm $name."""

from pathlib import Path

import torch
from r1exp import compose
from r1exp.__main__ import main

from $name import $class_name

CONF = Path(__file__).parent / "conf"


def test_advantages_are_rewards_minus_the_mean_of_the_group() -> None:
    steps = {step.name: step for step in compose("algorithm=$name", config_dirs=[CONF]).steps}
    algorithm = steps["rl"].config.algorithm
    assert isinstance(algorithm, $class_name)
    rewards = torch.tensor([1.0, 3.0, 5.0, 5.0])  # two prompts with two completions each
    assert algorithm.advantages(rewards, 2).tolist() == [-1.0, 1.0, 0.0, 0.0]


def test_a_run_with_it_can_be_planned() -> None:
    assert main(["plan", "--config-dir", str(CONF), "algorithm=$name"]) == 0
''')

_EXPERIMENT_YAML = Template("""\
# @package _global_
# The quickstart with other rewards and shorter steps. Only what differs from conf/config.yaml stands here.
# Source: written by `r1exp new experiment $name`.
#   r1exp plan --config-dir conf experiment=$name
defaults:
  - override /rewards: strict
name: $name
pipeline:
  steps:
    sft: {set: {max_steps: 100}}  # optimizer steps
    rl: {set: {max_steps: 50}}    # optimizer steps
""")

_EXPERIMENT_TEST = Template('''\
"""Tests of the experiment $name."""

from pathlib import Path

from r1exp.__main__ import main


def test_it_can_be_planned() -> None:
    conf = Path(__file__).parent / "conf"
    assert main(["plan", "--config-dir", str(conf), "experiment=$name"]) == 0
''')

KINDS = {
    "reward": Kind("rewards", "Reward", _REWARD, _REWARD_YAML, _REWARD_TEST, ("check", "plan")),
    "dataset": Kind("dataset", "Dataset", _DATASET, _DATASET_YAML, _DATASET_TEST, ("plan",)),
    "prompt": Kind("prompt", "", _PROMPT, _PROMPT_YAML, _PROMPT_TEST, ("plan",)),
    "algorithm": Kind("algorithm", "Algorithm", _ALGORITHM, _ALGORITHM_YAML, _ALGORITHM_TEST, ("plan",)),
    "experiment": Kind("experiment", "", None, _EXPERIMENT_YAML, _EXPERIMENT_TEST, ("plan",)),
}
