"""Problems that are solved always or never rest, the same ones on any number of ranks and after a resume."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from r1exp.algorithm.resting import groups_of_equal_scores
from r1exp.algorithm.trainers import Grpo

NAN = float("nan")


def test_a_group_whose_scores_are_all_equal_is_found_and_one_with_an_abstention_is_not() -> None:
    scores = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0, NAN, NAN, 1.0, NAN])
    assert groups_of_equal_scores(scores, 2) == [0, 2]


def only_odd_prompts_differ(completion_ids: list[list[int]], id: list[str], **_: Any) -> list[float]:
    """Give the completions of an odd prompt different rewards, and those of an even one the same."""
    return [float(row) if int(name) % 2 else 0.0 for row, name in enumerate(id)]


@pytest.fixture
def resting(grpo: Callable[..., Grpo]) -> Callable[..., tuple[Grpo, list[list[str]]]]:
    """Return a function that builds a trainer whose even problems rest, and the list of the prompts of each batch."""

    def build(num_steps: int = 2, **changes: Any) -> tuple[Grpo, list[list[str]]]:
        seen: list[list[str]] = []

        def reward(completion_ids: list[list[int]], id: list[str], **rest: Any) -> list[float]:
            seen.append(list(id[::2]))
            return only_odd_prompts_differ(completion_ids, id, **rest)

        trainer = grpo(reward=reward, **changes)
        trainer.let_rest(num_steps, judge=0)
        return trainer, seen

    return build


@pytest.mark.slow
def test_problems_rest_and_come_back(resting: Callable[..., tuple[Grpo, list[list[str]]]]) -> None:
    trainer, seen = resting(num_steps=3, max_steps=9)
    trainer.train()
    last: dict[str, int] = {}
    repeated = []
    for step, names in enumerate(seen):
        assert len(set(names)) == 4  # a batch keeps its size, and no problem stands in it twice
        for name in names:
            if int(name) % 2 == 0:
                repeated += [step - last[name]] if name in last else []
                last[name] = step
    assert repeated and min(repeated) > 3
    rows = [row for row in trainer.state.log_history if "resting/problems" in row]
    assert rows[0]["resting/replaced_prompts"] == 0.0 and any(row["resting/replaced_prompts"] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("at", [2, 4])
def test_a_resumed_run_lets_the_same_problems_rest(
    at: int,
    resting: Callable[..., tuple[Grpo, list[list[str]]]],
    weights: Callable[[torch.nn.Module], torch.Tensor],
    tmp_path: Path,
) -> None:
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": at, "beta": 0.01}
    whole, seen = resting(**settings)
    whole.train()
    resumed, again = resting(**settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoints" / f"checkpoint-{at}"))
    assert again == seen[at:]
    assert torch.equal(weights(resumed.model), weights(whole.model))


def asked(folder: Path, *overrides: str) -> list[set[str]]:
    """Run GRPO with a policy that answers a prompt always alike, and return the problems of each optimizer step."""
    words = [
        "stage=rl", "tracking=none", "health=off", "evaluation.before=false", "evaluation.after=false", "max_steps=4",
        "algorithm.prompts_per_step=4", "num_generations=2", "temperature=1e-6", "dataset.num_train=24", "beta=0",
        "algorithm.track_kl=false", "max_completion_length=4", "algorithm.rest_steps=2", "completions.per_step=64",
        "launcher.threads_per_process=1", "launcher.device=cpu", f"paths.run={folder}", f"paths.store={folder}-store",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "r1exp", *words, *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    files = sorted((folder / "steps" / "01-grpo" / "completions").glob("*.jsonl"))
    return [{json.loads(line)["problem"] for line in file.read_text().splitlines()} for file in files]


@pytest.mark.slow
def test_two_ranks_let_the_same_problems_rest_as_one(tmp_path: Path) -> None:
    one = asked(tmp_path / "one")
    two = asked(tmp_path / "two", "launcher=ddp", "launcher.num_processes=2")
    assert one == two and len(one) == 4
    assert all(len(names) == 4 for names in one)
    assert (
        not (one[0] & one[1]) and not (one[1] & one[2]) and not (one[0] & one[2])
    )  # all of them rest two steps
