"""Composition of command lines into experiments, and the options of conf/ and sweeps/."""

from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.algorithm.ppo import Ppo
from r1exp.assets import CONF, SWEEPS
from r1exp.config.compose import session
from r1exp.config.experiment import Experiment, experiment_from
from r1exp.config.origin import Origins
from r1exp.dataset.hf import Hf
from r1exp.errors import Refused
from r1exp.plan.steps import planned_steps

Compose = Callable[..., Experiment]
JUDGE = ["rewards.helpful.model=a/model"]
MODELS = ["rewards.helpful.model=someone/scorer", "rewards.harmless.model=someone/scorer"]
NEEDS = {  # option -> the overrides it requires
    "model=hf": ["model.path=someone/model"],
    "dataset=jsonl": ["stage=evaluate", "dataset.path=problems.jsonl"],
    "algorithm=dpo": ["stage=rl", "dataset=preference"],
    "stage=reward_model": ["dataset=preference"],
    "pipeline=none": ["stage=sft"],
    "pipeline=dpo_preferences": ["dataset=preference"],
    "pipeline=rlhf_preferences": ["dataset=preference"],
    "rewards=reward_model": ["rewards.preference.model=someone/scorer"],
    "rewards=helpful_harmless": MODELS,
    "rewards=all_scenarios": MODELS,
    "dataset=mixture": ["dataset.parts.sums=arithmetic"],
    "rewards=judge": JUDGE,
    "rewards=group_judge": JUDGE,
    "rewards=rubric": ["rewards.rubric.model=a/model"],
    "rollout=endpoint": ["stage=evaluate", "rollout.model=someone/teacher"],
}
OPTIONS = sorted(
    f"{path.parent.name}={path.stem}" for path in [*CONF.glob("*/*.yaml"), *SWEEPS.glob("*.yaml")]
)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_yaml_composes(option: str, compose_line: Compose) -> None:
    assert compose_line(option, *NEEDS.get(option, [])).steps


@pytest.mark.parametrize("path", [*CONF.glob("*/*.yaml"), *SWEEPS.glob("*.yaml")], ids=lambda path: path.stem)
def test_every_yaml_starts_with_its_source_and_an_example(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    head = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    assert any("Source:" in line for line in head)
    assert any(line.startswith("#   r1exp ") for line in head)


def test_training_overrides_apply_to_the_focus_step_and_run_overrides_to_every_step(
    compose_line: Compose,
) -> None:
    experiment = compose_line("beta=0.25", "max_steps=7", "seed=9", "rewards=strict")
    sft, rl = (step.config for step in experiment.steps)
    assert (sft.beta, sft.max_steps, sft.seed, sft.rewards) == (None, 150, 9, None)
    assert (rl.beta, rl.max_steps, rl.seed) == (0.25, 7, 9)
    assert rl.rewards is not None and list(rl.rewards) == ["strict", "format"]


def test_an_override_for_one_step_takes_precedence_over_all_others(compose_line: Compose) -> None:
    experiment = compose_line(
        "pipeline.steps.sft.set.max_steps=5", "+pipeline.steps.sft.set.trainer.packing=true"
    )
    sft = experiment.steps[0].config
    assert (sft.max_steps, sft.trainer["packing"]) == (5, True)


def test_a_weight_of_0_can_be_typed(compose_line: Compose) -> None:
    rewards = compose_line("rewards.graded.weight=0").steps[1].config.rewards
    assert rewards is not None and rewards["graded"].weight == 0


def test_a_stage_runs_alone(compose_line: Compose) -> None:
    experiment = compose_line("stage=rl", "max_steps=3")
    assert [step.name for step in experiment.steps] == ["grpo"]


def test_an_experiment_can_extend_another_experiment(compose_line: Compose) -> None:
    strict = compose_line("experiment=gemma2_gsm8k_strict").steps[0].config
    vote = compose_line("experiment=gemma2_gsm8k_vote").steps[0].config
    assert strict.rewards is not None and "vote_partial" not in strict.rewards
    assert vote.rewards is not None and vote.rewards["vote_partial"].weight == 1.0
    assert (strict.max_steps, strict.model.lora.r, strict.prompt.style) == (180, 16, "reasoning_answer")


def test_an_experiment_with_a_pipeline_sets_values_of_its_steps(compose_line: Compose) -> None:
    sft, rl = (step.config for step in compose_line("experiment=qwen2.5_gsm8k").steps)
    assert (sft.max_steps, rl.max_steps, sft.evaluation.temperature) == (116, 230, 0.7)


def test_an_experiment_does_not_change_a_group_that_a_step_names_in_use(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        """# @package _global_
defaults: [override /pipeline: rlhf_ppo, override /algorithm: ppo, override /rewards: reward_model, _self_]
dataset: {num_operands: 2, num_train: 300}
algorithm: {gamma: 0.99}
learning_rate: ${model.learning_rate.sft}
rewards: {preference: {model: "artifact:reward_model", weight: 2.0}, repetition_penalty: {n: 4}}
"""
    )
    with session([tmp_path]):
        steps = {step.name: step.config for step in experiment_from(["experiment=mine"]).steps}
        plain = {step.name: step.config for step in experiment_from(["pipeline=rlhf_ppo"]).steps}
    assert steps["sft"].dataset == steps["sample"].dataset != plain["sample"].dataset
    assert steps["reward_model"].dataset == plain["reward_model"].dataset  # preference data, not sums
    assert steps["ppo"].dataset == plain["ppo"].dataset
    assert steps["sample"].rewards == plain["sample"].rewards  # graded, as in the pipeline
    ppo = steps["ppo"]
    # Training overrides apply to the focus step.
    assert isinstance(ppo.algorithm, Ppo) and ppo.algorithm.gamma == 0.99
    assert ppo.rewards is not None and ppo.rewards["preference"].weight == 2.0
    assert ppo.learning_rate == ppo.model.learning_rate.sft != plain["ppo"].learning_rate


def test_an_experiment_chooses_the_algorithm_of_the_focus_step(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [override /algorithm: ppo]\nalgorithm: {gae_lambda: 1.0}\nmax_steps: 9\n"
    )
    with session([tmp_path]):
        sft, rl = (step.config for step in experiment_from(["experiment=mine"]).steps)
        overrides = ["experiment=mine", "algorithm=rloo", "~algorithm.gae_lambda"]
        typed = experiment_from(overrides).steps[1].config
    assert (sft.algorithm, sft.max_steps) == (None, 150)
    assert rl.algorithm is not None and (rl.algorithm.kind, rl.max_steps) == ("ppo", 9)
    assert typed.algorithm is not None and (typed.algorithm.kind, typed.max_steps) == ("rloo", 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("beta: 0.1\n", r"experiment.beta: .* `# @package _global_` as its first line", id="no package"),
        pytest.param("# @package _global_\nbeta: [0.1\n", r"mine.yaml, line 3, column 1: not valid YAML", id="not YAML"),
        pytest.param("# @package _global_\nbetta: 0.1\n", r"betta: .* Did you mean beta\?", id="misspelt"),
        pytest.param("# @package _global_\ndefaults: [override /algorithm: pppo]\n", "algorithm/pppo", id="no option"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_experiment_file_is_refused_with_its_place(
    text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    with session([tmp_path]), pytest.raises(Refused, match=message):
        experiment_from(["experiment=mine"])


def test_a_typed_stage_replaces_the_pipeline_of_an_experiment(compose_line: Compose) -> None:
    experiment = compose_line("experiment=qwen2.5_gsm8k", "stage=rl")
    assert [step.name for step in experiment.steps] == ["grpo"]
    measured = compose_line("experiment=qwen2.5_gsm8k", "stage=evaluate", "dataset.limit=9")
    config = measured.steps[0].config
    assert isinstance(config.dataset, Hf)
    assert (config.rewards, config.model.kind, config.dataset.limit) == (None, "pretrained", 9)
    found = Origins(measured.composition, measured.overrides)
    assert found.of("evaluation.temperature") == "experiment/qwen2.5_gsm8k.yaml"
    with pytest.raises(Refused, match=r"stage=rl in .* runs one step"):
        compose_line("experiment=gemma2_gsm8k_vote", "pipeline=sft_grpo")


def test_a_sweep_file_applies_to_every_step_of_a_member(compose_line: Compose) -> None:
    experiment = compose_line("sweeps=reward_weights", "rewards.xml_count.weight=0.5", "seed=2")
    assert experiment.name == "reward_weights"
    assert [step.config.seed for step in experiment.steps] == [2, 2]


def test_every_value_has_an_origin(compose_line: Compose) -> None:
    experiment = compose_line("beta=0.5", "model.lora.r=4")
    found = Origins(experiment.composition, experiment.overrides)
    assert found.of("beta") == "beta=0.5"
    assert found.of("model.lora.r") == "model.lora.r=4"
    assert found.of("trainer.epsilon") == "algorithm/grpo.yaml"
    assert found.of("seed") == "config.yaml"
    assert found.of("rewards.graded.exact") == "rewards/graded.yaml"


def test_evaluations_are_planned_before_and_after_training_steps(compose_line: Compose) -> None:
    names = [step.label for step in planned_steps(compose_line())]
    assert names == ["pre_sft", "sft", "post_sft", "grpo", "post_grpo"]
    without = compose_line("evaluation.before=false", "evaluation.after=false")
    assert [step.name for step in planned_steps(without)] == ["sft", "rl"]


def test_the_key_of_a_step_changes_with_what_determines_its_result(compose_line: Compose) -> None:
    def keys(*overrides: str) -> dict[str, str]:
        return {step.name: step.key for step in planned_steps(compose_line(*overrides))}

    plain = keys()
    assert keys("tracking=none", "name=other", "launcher.threads_per_process=1") == plain
    other_beta = keys("beta=0.1")
    changed = {name for name in plain if plain[name] != other_beta[name]}
    assert changed == {"rl", "evaluate-post-grpo"}
    assert not set(keys("seed=2").values()) & set(plain.values())
    assert set(keys("evaluation=fast").items()) & set(plain.items()) == {
        ("sft", plain["sft"]),
        ("rl", plain["rl"]),
    }
