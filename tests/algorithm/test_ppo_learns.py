"""Tests that the critic learns to predict returns, and that PPO then needs fewer completions."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import pytest
from transformers import TrainerCallback, TrainerControl

from r1exp.__main__ import main
from r1exp.algorithm.kl_controller import KlController, KlSettings
from r1exp.algorithm.ppo_trainer import Ppo

pytestmark = pytest.mark.slow


def test_values_explain_a_reward_that_depends_on_the_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the unchanged recipe; each generation batch has new problems."""
    here = str(Path(__file__).parent)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
    overrides = [
        "stage=rl", "algorithm=ppo", "~rewards.graded", "~rewards.xml_count", "max_steps=61",
        "+rewards.large={kind: 'bare_rewards:large'}", "max_completion_length=8", "evaluation.before=false",
        "evaluation.after=false", "tracking=none", "health=off", "launcher=local", "paths.run=run",
    ]  # fmt: skip
    assert main(overrides) == 0
    rows = map(json.loads, (tmp_path / "run/steps/01-ppo/metrics.jsonl").read_text().splitlines())
    explained = {row["step"]: row["explained_variance"] for row in rows if "explained_variance" in row}
    assert explained[1] < 0.1
    assert mean(explained[step] for step in (49, 53, 57, 61)) > 0.6


ENOUGH = 0.75  # share of even tokens; chance is 0.5


def is_enough(shares: list[float]) -> bool:
    return len(shares) >= 10 and mean(shares[-10:]) >= ENOUGH


@pytest.fixture
def completions_needed(ppo: Callable[..., Ppo]) -> Callable[[str, float, int], float]:
    """Return a function that trains PPO and returns the number of completions until enough tokens are even.

    The training ends there, or after `most` completions; the number is then infinite.

    The score is the share of even tokens, plus 6 points for every completion of half of the prompts, which
    are noise unless the critic predicts them.
    """

    def needed(critic: str, lam: float, most: int) -> float:
        shares: list[float] = []

        class Enough(TrainerCallback):
            def on_step_end(self, args: object, state: object, control: TrainerControl, **_: object) -> None:
                control.should_training_stop = is_enough(shares)

        def even_tokens_and_bonus(completion_ids: list[list[int]], id: list[str], **_: object) -> list[float]:
            even = [sum(token % 2 == 0 for token in tokens) / len(tokens) for tokens in completion_ids]
            shares.append(mean(even))
            return [share + 6.0 * (int(row) >= 32) for share, row in zip(even, id, strict=True)]

        trainer = ppo(
            critic, reward=even_tokens_and_bonus, num_prompts=64, kl=KlController(KlSettings(target=None, rate=0.1, limit=0.2), 0.0),
            options={"lam": lam, "value_clip": None, "critic_learning_rate": 3e-3}, beta=0.0, learning_rate=3e-3,
            max_steps=most // 64, steps_per_generation=1, per_device_train_batch_size=64, max_completion_length=8,
        )  # fmt: skip
        trainer.add_callback(Enough())
        trainer.train()
        return 64 * len(shares) if is_enough(shares) else float("inf")

    return needed


def test_a_critic_that_predicts_the_bonus_saves_completions(
    completions_needed: Callable[[str, float, int], float],
) -> None:
    learned = completions_needed("separate", 0.95, 9_600)
    assert learned < 9_600
    assert learned < completions_needed("zero", 0.95, int(learned))
    assert learned < completions_needed("zero", 1.0, int(learned))
