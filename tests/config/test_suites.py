from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.evaluation.settings import Suite
from r1exp.plan.steps import planned_steps

Compose = Callable[..., Experiment]


def suites(experiment: Experiment, step: int = -1) -> list[Suite]:
    config = experiment.steps[step].config
    return list(config.evaluation.resolved(config.dataset, config.prompt))


def test_the_only_suite_is_the_runs_own_test_split(compose_line: Compose) -> None:
    (suite,) = suites(compose_line("evaluation.samples=3"))
    assert (suite.name, suite.dataset.kind, suite.samples, suite.max_tokens) == ("test", "arithmetic", 3, 40)


def test_suites_are_named_and_changed(compose_line: Compose) -> None:
    experiment = compose_line(
        "evaluation.suites=[test,gsm8k,aime]", "evaluation.suites.gsm8k.samples=4", "evaluation.temperature=0.5",
        "evaluation.suites.gsm8k.dataset.path=my/folder", "evaluation.suites.aime.prompt=boxed",
    )  # fmt: skip
    own, gsm8k, aime = suites(experiment)
    assert own.dataset is experiment.steps[-1].config.dataset
    path: Any = getattr(gsm8k.dataset, "path")  # noqa: B009 - of its class only
    assert (path, gsm8k.samples, gsm8k.temperature, gsm8k.prompt.style) == (
        "my/folder",
        4,
        0.5,
        "think_answer",
    )
    assert (aime.samples, aime.temperature, aime.greedy, aime.prompt.style) == (64, 0.6, False, "boxed")


def test_a_suite_of_ones_own_names_its_data_set(compose_line: Compose) -> None:
    (typed,) = suites(compose_line("evaluation.suites.mine.dataset=arithmetic", "max_completion_length=99"))
    assert (typed.name, typed.max_tokens) == ("mine", 40)  # the limit that conf/dataset/arithmetic.yaml sets
    mapping = "evaluation.suites.mine={dataset: {preset: gsm8k, path: x}, max_tokens: 7}"
    (mapped,) = suites(compose_line(mapping))
    assert (mapped.dataset.kind, mapped.max_tokens) == ("hf", 7)


def test_one_step_of_a_pipeline_has_suites_of_its_own(compose_line: Compose) -> None:
    experiment = compose_line("pipeline.steps.rl.set.evaluation.suites=[arithmetic]")
    assert [suites(experiment, step)[0].name for step in (0, 1)] == ["test", "arithmetic"]


def test_an_experiment_file_chooses_suites(tmp_path: Path) -> None:
    from r1exp.config.compose import session
    from r1exp.config.experiment import experiment_from

    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults: [{override /suites: [test, gsm8k]}]\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    with session([tmp_path]):
        assert [suite.name for suite in suites(experiment_from(["experiment=mine"]))] == ["test", "gsm8k"]


def test_a_data_set_of_a_suite_is_that_of_the_session(tmp_path: Path) -> None:
    from r1exp.config.compose import session
    from r1exp.config.experiment import experiment_from

    for name in ("here", "there"):
        (tmp_path / name / "dataset").mkdir(parents=True)
        (tmp_path / name / "dataset" / "mine.yaml").write_text(f"defaults: [gsm8k]\npath: {name}\n")
        with session([tmp_path / name]):
            for limit in (3, None):  # what one member of a sweep changes is not changed for the next
                changed = [] if limit is None else [f"evaluation.suites.own.dataset.test_limit={limit}"]
                (own,) = suites(experiment_from(["evaluation.suites.own.dataset=mine", *changed]))
                settings = own.dataset.model_dump()
                assert (settings["path"], settings["test_limit"]) == (name, limit)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        pytest.param("evaluation.suites=[gsm]", "Did you mean suites=gsm8k", id="no such suite"),
        pytest.param("evaluation.suites.gsm.samples=2", "needs evaluation.suites.gsm.dataset", id="misspelt"),
        pytest.param("evaluation.suites.a.dataset=gsm", "Did you mean gsm8k", id="no such data set"),
        pytest.param("evaluation.best_of=true", "set evaluation.samples=4", id="one sample"),
        pytest.param("evaluation.tasks=[a]", "add evaluation.harness=lm_eval", id="tasks without a harness"),
        pytest.param("evaluation.harness=lm_eval", "has no tasks", id="a harness without tasks"),
    ],
)
def test_what_cannot_work_is_refused(compose_line: Compose, typed: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        compose_line(typed)


def test_debug_cuts_suites_short(compose_line: Compose) -> None:
    (aime,) = suites(compose_line("evaluation.suites=[aime]", "debug=fast"))
    assert aime.samples == 4 and aime.max_tokens == 32


def keys(experiment: Experiment) -> list[str]:
    return [step.key for step in planned_steps(experiment) if step.kind == "evaluate"]


def test_a_suite_is_part_of_the_key_and_the_data_set_that_it_does_not_read_is_not(
    compose_line: Compose,
) -> None:
    base = ("stage=evaluate", "evaluation.suites=[arithmetic]")
    (first,) = keys(compose_line(*base))
    assert keys(compose_line(*base, "evaluation.suites.arithmetic.num_problems=5")) != [first]
    assert keys(compose_line(*base, "evaluation.suites.arithmetic.dataset.max_operand=9")) != [first]
    assert keys(compose_line(*base, "dataset.max_operand=9")) == [first]


def test_the_plan_says_how_much_each_suite_generates(compose_line: Compose) -> None:
    (step,) = planned_steps(
        compose_line("stage=evaluate", "evaluation.suites=[arithmetic]", "evaluation.samples=4")
    )
    stage = step.config.stage
    assert stage is not None and step.num_problems == 1000
    assert stage.describe(step.config, 1000) == "arithmetic 1,000, 5,000 completions of at most 200 k tokens"
    (line,) = stage.details(step.config)
    assert (
        "1,000 problems x 4 sampled + 1 greedy" in line and "5,000 completions of at most 40 tokens" in line
    )
