"""Chats of one's own, with columns named like what the trainer passes, run through SFT and RL to the end."""

import json
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.dataset.arithmetic import Arithmetic

FAST = (
    "tracking=none",
    "debug=fast",
    "debug.max_steps=1",
    "evaluation.before=false",
    "evaluation.after=false",
)


@pytest.fixture
def chats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of conversations; every second one has an earlier turn."""
    monkeypatch.chdir(tmp_path)
    sums = Arithmetic(
        kind="arithmetic", seed=0, num_train=64, num_test=1, num_operands=2, max_operand=9, test_share=0.1
    )
    rows = []
    for number, problem in enumerate(sums.load("train")):
        ask = {"role": "user", "content": problem.prompt}
        reply = {"role": "assistant", "content": f"<think>so</think>\n<answer>{problem.answer}</answer>"}
        turns = [ask, reply, ask] if number % 2 else [ask]
        taken = {"images": [1], "completions": "x", "trainer_state": {"a": 1}, "log_metric": 2, "prompt": "y"}
        rows.append({"messages": [*turns, reply], "asked": turns, "gold": int(str(problem.answer)), **taken})
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.slow
def test_conversations_are_learned_by_sft_and_asked_by_rl(chats: Path) -> None:
    assert (
        main(
            [
                "stage=sft",
                "dataset=chat",
                f"dataset.path={chats}",
                "stage.rows_per_step=8",
                "paths.run=sft",
                *FAST,
            ]
        )
        == 0
    )
    asked = ["dataset=hf", f"dataset.path={chats}", "dataset.num_test=8", "dataset.columns.question=asked"]
    small = ["max_completion_length=8", "algorithm.prompts_per_step=4", "num_generations=2", "rewards=graded"]
    assert main(["stage=rl", *asked, "dataset.columns.answer=gold", *small, "paths.run=rl", *FAST]) == 0
    metrics = [json.loads(line) for line in Path("rl/steps/01-grpo/metrics.jsonl").read_text().splitlines()]
    assert any("reward" in row for row in metrics)
