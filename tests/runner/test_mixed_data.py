"""Mixtures in runs: a part from an earlier step, chats beside problems, and rewards that judge one part only."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.config.compose import session
from r1exp.config.experiment import Experiment, experiment_from
from r1exp.errors import Refused
from r1exp.plan.steps import planned_steps

Compose = Callable[..., Experiment]
PIPELINE = """
focus: rl
steps:
  sft: {use: {stage: sft}, set: {max_steps: 5}}
  harvest: {use: {stage: sample, rewards: strict}, set: {stage.samples: 4, stage.num_problems: 32, stage.max_pass_rate: 1.0}}
  rl:
    use: {stage: rl, dataset: mixture}
    set:
      dataset.parts.hard: {preset: jsonl, path: "artifact:harvest", num_test: 0, limit: 8}
      dataset.parts.sums: {preset: arithmetic, limit: 8}
      dataset.parts.chat: {preset: chat, path: chats.jsonl}
"""
FAST = (
    "tracking=none",
    "debug=fast",
    "debug.max_steps=2",
    "evaluation.before=false",
    "evaluation.after=false",
)


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of config files with the pipeline `mixed`; chats are in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "pipeline").mkdir(parents=True)
    (tmp_path / "conf" / "pipeline" / "mixed.yaml").write_text(PIPELINE)
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    rows = [
        {
            "messages": [
                *turns,
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": f"And {k}?"},
            ]
        }
        for k in range(8)
    ]
    Path("chats.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path / "conf"


def keys(conf: Path, *typed: str) -> dict[str, str]:
    with session([conf]):
        return {
            step.name: step.key for step in planned_steps(experiment_from(["pipeline=mixed", *typed, *FAST]))
        }


def test_a_step_depends_on_the_steps_that_its_parts_name(conf: Path) -> None:
    with session([conf]):
        steps = {step.name: step for step in planned_steps(experiment_from(["pipeline=mixed", *FAST]))}
    assert set(steps["rl"].reads) == {"sft", "harvest"} and steps["rl"].num_problems is None
    first = keys(conf)
    assert first == keys(conf)
    changed = keys(conf, "pipeline.steps.harvest.set.stage.samples=5")
    assert {name for name in first if first[name] != changed[name]} == {"harvest", "rl"}
    limited = keys(conf, "pipeline.steps.rl.set.dataset.parts.sums.limit=4")
    assert {name for name in first if first[name] != limited[name]} == {"rl"}
    with pytest.raises(Refused, match="reads artifact:harvst, which is none of the earlier steps"):
        keys(conf, "pipeline.steps.rl.set.dataset.parts.hard.path=artifact:harvst")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        pytest.param("dataset.parts.a=arithmetc", "Did you mean arithmetic", id="no such option"),
        pytest.param(
            "dataset.parts.b.weight=2", r"Did you mean dataset\.parts\.a\.weight", id="no such part"
        ),
        pytest.param(
            "dataset.parts.a.num_operand=2", r"Did you mean dataset\.parts\.a\.num_operands", id="no such key"
        ),
        pytest.param("dataset.parts.a.num_operands=x", r"dataset\.parts\.a\.num_operands", id="no number"),
    ],
)
def test_what_cannot_work_is_refused(compose_line: Compose, typed: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        compose_line("stage=rl", "dataset=mixture", "dataset.parts.a=arithmetic", typed)


def test_a_part_may_be_chosen_in_a_defaults_list(conf: Path) -> None:
    (conf / "dataset").mkdir()
    parts = "  - /dataset@parts.one: arithmetic\n  - /dataset@parts.two: countdown\n"
    (conf / "dataset" / "mine.yaml").write_text(
        f"defaults:\n  - mixture\n{parts}  - _self_\nparts: {{one: {{limit: 3}}}}\n"
    )
    for pipeline in ("stage=rl", "pipeline=sft_grpo"):
        with session([conf]):
            dataset = experiment_from(["dataset=mine", pipeline]).steps[-1].config.dataset
        values = dataset.model_dump()["parts"]
        assert (values["one"]["kind"], values["one"]["limit"], values["two"]["kind"]) == (
            "arithmetic",
            3,
            "countdown",
        )


@pytest.mark.slow
def test_rl_learns_from_a_mixture_with_rewards_for_each_part(conf: Path) -> None:
    rewards = [
        "rewards.graded.applies_to={source: sums}",
        "rewards.fluent={kind: repetition_penalty, weight: 1.0, n: 3, max_penalty: -1.0, applies_to: {source: chat}}",
    ]
    small = ["max_completion_length=8", "algorithm.prompts_per_step=12", "num_generations=2"]
    typed = ["--config-dir", str(conf), "pipeline=mixed", "paths.run=run", *rewards, *small, *FAST]
    assert main([*typed, "debug.num_rows=null", "debug.rows_per_step=null"]) == 0
    metrics = [json.loads(line) for line in Path("run/steps/03-rl/metrics.jsonl").read_text().splitlines()]
    steps = [row for row in metrics if "reward" in row]
    assert len(steps) == 2
    for row in steps:
        assert row["rewards/graded/mean"] is not None and row["rewards/fluent/mean"] is not None
    answered = [
        json.loads(line)
        for path in Path("run/steps/03-rl/completions").glob("*.jsonl")
        for line in path.open()
    ]
    assert {row["problem"].split("/")[0] for row in answered} >= {"sums", "chat"}
