"""What is part of a step's key: exactly what decides its result."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from r1exp.config.compose import session
from r1exp.config.experiment import Experiment, experiment_from
from r1exp.errors import Refused
from r1exp.plan import provenance
from r1exp.plan.provenance import refuse_changed_inputs, user_code
from r1exp.plan.steps import BASE, PlannedStep, planned_steps

ALL = ("evaluate-pre-sft", "sft", "evaluate-post-sft", "rl", "evaluate-post-grpo")
FROM_SFT, FROM_RL = ALL[1:], ALL[3:]
EVALUATIONS = (ALL[0], ALL[2], ALL[4])


def planned(*overrides: str) -> dict[str, PlannedStep]:
    return {step.name: step for step in planned_steps(experiment_from([*overrides, "tracking=none"]))}


@pytest.fixture(scope="module")
def default() -> Iterator[dict[str, PlannedStep]]:
    with session():
        yield planned()


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        pytest.param("max_completion_length=60", (*EVALUATIONS, "rl"), id="SFT generates nothing"),
        pytest.param("rollout.batch_size=8", EVALUATIONS, id="training generates its own batch"),
        pytest.param("model.rows_per_device.rl=8", (), id="how rows are split"),
        pytest.param("model.learning_rate.rl=1e-3", FROM_RL, id="the default of another stage"),
        pytest.param("trainer.save_steps=7", (), id="when a checkpoint is saved"),
        pytest.param("trainer.logging_steps=7", FROM_RL, id="the rows that a rule that stops sees"),
        pytest.param("debug.max_steps=100000", (), id="a limit that limits nothing"),
        pytest.param("debug.max_steps=100", FROM_SFT, id="a limit of the optimizer steps"),
        pytest.param("debug.num_problems=9999", EVALUATIONS, id="a limit of the evaluations"),
        pytest.param("dataset.num_train=9000", FROM_SFT, id="problems to train on"),
        pytest.param("dataset.num_test=900", EVALUATIONS, id="problems to evaluate on"),
        pytest.param("learning_rate=1e-3", FROM_RL, id="of the focus step"),
        pytest.param("model.lora.r=4", FROM_SFT, id="adapters"),
        pytest.param("health=off", FROM_SFT, id="rules that stop a step"),
        pytest.param("health.rules.kl_high.above=9", (), id="a rule that warns"),
        pytest.param("health.rules.kl_explosion.above=9", FROM_SFT, id="a rule that stops"),
        pytest.param("health.rules.kl_explosion.advice=none", (), id="the advice of a rule that stops"),
        pytest.param("evaluation.temperature=0.5", EVALUATIONS, id="how problems are answered"),
        pytest.param("model.words=bilingual", ALL, id="the tokenizer of the tiny model"),
        pytest.param("prompt.system=Think.", ALL, id="the prompt"),
        pytest.param("seed=2", ALL, id="the seed"),
        pytest.param("name=another", (), id="the name"),
        pytest.param("paths.runs=elsewhere", (), id="where it is written"),
    ],
)
def test_an_override_changes_the_keys_of_the_steps_whose_results_it_changes(
    override: str, changed: tuple[str, ...], default: dict[str, PlannedStep]
) -> None:
    found = planned(override)
    own = {name for name in ALL if found[name].key != default[name].key}
    # A step that starts from a changed step is another step.
    expected = set(changed) | ({"evaluate-post-sft", *FROM_RL} if "sft" in changed else set())
    expected |= {"evaluate-post-grpo"} if "rl" in expected else set()
    assert own == expected


def test_without_a_rule_that_stops_it_does_not_matter_when_a_row_is_logged(
    compose_line: Callable[..., Experiment],
) -> None:
    line = ("stage=rl", "health=off")
    assert planned(*line, "trainer.logging_steps=7")["grpo"].key == planned(*line)["grpo"].key


@pytest.mark.parametrize(
    ("stage", "counts"),
    [("preferences", False), ("sample", True)],
)
def test_the_start_model_is_part_of_the_key_of_a_step_that_loads_it(
    stage: str, counts: bool, compose_line: Callable[..., Experiment]
) -> None:
    keys = {planned(f"stage={stage}", f"model.init_seed={seed}")[stage].key for seed in (0, 1)}
    assert (len(keys) == 2) is counts


@pytest.mark.parametrize(
    ("algorithm", "counts"), [("ppo", False), ("grpo", True)], ids=["a critic", "a group"]
)
def test_how_rewards_are_scaled_is_part_of_the_key_of_an_algorithm_that_scales_them(
    algorithm: str, counts: bool, compose_line: Callable[..., Experiment]
) -> None:
    line = ("stage=rl", f"algorithm={algorithm}")
    changed = planned(*line, "trainer.scale_rewards=batch")[algorithm].key
    assert (changed != planned(*line)[algorithm].key) is counts


def test_gradient_checkpointing_shifts_digits_at_most(compose_line: Callable[..., Experiment]) -> None:
    line = ("stage=sft", "evaluation.before=false", "evaluation.after=false")
    (plain,), *others = (
        planned(*line, *more).values()
        for more in ((), ("model.gradient_checkpointing=true",), ("trainer.gradient_checkpointing=true",))
    )
    for (step,) in others:
        assert step.key == plain.key
        assert step.numerics != plain.numerics


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a package with a reward function that imports a helper of the same package."""
    folder = tmp_path / "mine_for_keys"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "scores.py").write_text(
        "from .helper import half\n\ndef score(completions, **kwargs):\n    ...\n"
    )
    (folder / "helper.py").write_text("import json\n\ndef half():\n    return 0.5\n")
    (folder / "other.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return folder


OWN_REWARD = ("stage=rl", "+rewards.mine.kind=mine_for_keys.scores:score", "+rewards.mine.weight=1.0")


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        pytest.param("scores.py", True, id="the function"),
        pytest.param("helper.py", True, id="what it imports"),
        pytest.param("__init__.py", True, id="its package"),
        pytest.param("other.py", False, id="what it does not import"),
    ],
)
def test_the_source_of_a_reward_is_part_of_the_key(
    file: str, counts: bool, package: Path, compose_line: Callable[..., Experiment]
) -> None:
    before = planned(*OWN_REWARD)["grpo"]
    assert list(user_code(before.config)) == ["mine_for_keys.scores"]
    with (package / file).open("a") as source:
        source.write("# changed\n")
    assert (planned(*OWN_REWARD)["grpo"].key != before.key) is counts


def test_the_versions_of_r1exp_and_of_the_libraries_are_part_of_the_key(
    compose_line: Callable[..., Experiment],
    default: dict[str, PlannedStep],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = provenance._version
    monkeypatch.setattr(provenance, "_version", lambda name: "99.0" if name == "trl" else real(name))
    found = planned()
    assert found["sft"].key != default["sft"].key
    assert found["evaluate-pre-sft"].key == default["evaluate-pre-sft"].key  # trains nothing
    monkeypatch.setattr(provenance, "_own_version", lambda: "99.0")
    assert planned()["evaluate-pre-sft"].key != default["evaluate-pre-sft"].key


def test_a_file_counts_with_its_content_and_not_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose_line: Callable[..., Experiment]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f'{{"question": "q{number}", "answer": "{number}", "solution": "s"}}\n' for number in range(200)]
    Path("data.jsonl").write_text("".join(rows))
    Path("template.jinja").write_text("{{ messages[0].content }}")
    line = (
        "stage=sft",
        "dataset=jsonl",
        "evaluation.before=false",
        "evaluation.after=false",
        "dataset.limit=null",
    )

    def key(data: str, template: str) -> str:
        return planned(*line, f"dataset.path={data}", f"+trainer.chat_template_path={template}")["sft"].key

    first = key("data.jsonl", "template.jinja")
    assert key(str(tmp_path / "data.jsonl"), str(tmp_path / "template.jinja")) == first
    Path("template.jinja").write_text("{{ messages[0].content }} ")
    assert key("data.jsonl", "template.jinja") != first


def test_an_input_that_changed_after_planning_is_refused_by_name(
    package: Path, compose_line: Callable[..., Experiment]
) -> None:
    step = planned(*OWN_REWARD)["grpo"]
    refuse_changed_inputs(step.config, step.inputs, from_base=step.model_from == BASE)
    (package / "helper.py").write_text("def half():\n    return 0.6\n")
    with pytest.raises(
        Refused, match=r"the source of mine_for_keys\.scores changed after the run was planned"
    ):
        refuse_changed_inputs(step.config, step.inputs, from_base=step.model_from == BASE)
