"""Which steps may run (--from, --until, --only), and why a step runs although one of its name is finished."""

from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.files import hash_of_folder, write_json
from r1exp.paths import RunPaths, StorePaths
from r1exp.plan.durations import Durations
from r1exp.plan.members import member_of
from r1exp.plan.reuse import reasons
from r1exp.plan.step_range import StepRange
from r1exp.plan.steps import PlannedStep, planned_steps
from r1exp.step.executions import note_execution
from r1exp.step.status import ArtifactInfo, Status
from r1exp.verbs.options import parse_options

Compose = Callable[..., Experiment]
STORE = Path("runs/.store")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def finish(step: PlannedStep, run: str = "earlier") -> None:
    """Put a step into the store, as a run left it that has finished it."""
    assert step.config.stage is not None
    for folder in (StorePaths(STORE).steps / step.slot, step.paths(Path(run))):
        place = folder if isinstance(folder, Path) else folder.folder
        write_json(place / "artifact" / "weights.json", {})
        artifact = ArtifactInfo(kind=step.config.stage.makes, hash=hash_of_folder(place / "artifact"))
        Status(state="done", seconds=9.0, artifact=artifact, numerics=step.numerics).write(place)
        config = step.config.model_dump(mode="json")
        content = {"name": step.name, "key": step.key, "config": config, "run_id": run, "device": step.device}
        write_json(place / "step.json", content | {"trainer_args": step.trainer_args})
    StorePaths(STORE).leases.mkdir(exist_ok=True)
    note_execution(StorePaths(STORE).working_directory(step.slot), step.paths(Path(run)).folder)
    write_json(RunPaths(Path(run)).plan, {"steps": [{"name": step.name, "inputs": step.inputs}]})


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        pytest.param(StepRange(), [0, 1, 2, 3, 4], id="every step"),
        pytest.param(StepRange("sft", "sft"), [0, 1, 2], id="a step with its evaluations"),
        pytest.param(StepRange("rl"), [3, 4], id="from a step"),
        pytest.param(StepRange(None, "sft"), [0, 1, 2], id="until a step"),
        pytest.param(StepRange("evaluate-post-sft", "evaluate-post-sft"), [2], id="an evaluation alone"),
    ],
)
def test_a_range_holds_steps_with_the_evaluations_of_their_models(
    span: StepRange, expected: list[int], compose_line: Compose
) -> None:
    assert list(span.positions(planned_steps(compose_line()))) == expected


@pytest.mark.parametrize(
    ("span", "message"),
    [
        pytest.param(StepRange("sff"), "no step 'sff'. Did you mean sft.*evaluate-post-grpo", id="misspelt"),
        pytest.param(StepRange("rl", "sft"), "sft comes before rl", id="backwards"),
    ],
)
def test_a_range_that_is_none_is_refused(span: StepRange, message: str, compose_line: Compose) -> None:
    with pytest.raises(Refused, match=message):
        span.positions(planned_steps(compose_line()))


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        pytest.param(["--from"], "--from needs the name of a step", id="no name"),
        pytest.param(["--only", "a", "--until=b"], "--only a is one step, and --until a range", id="both"),
        pytest.param(["--from", "a", "--from", "b"], "give one of them", id="twice"),
    ],
)
def test_options_that_name_no_range_are_refused(typed: list[str], message: str) -> None:
    with pytest.raises(Refused, match=message):
        parse_options(typed, takes_range=True)
    with pytest.raises(Refused, match="only `r1exp run` and `r1exp plan` have"):
        parse_options(typed)


def test_a_step_that_is_left_out_and_not_finished_is_named_with_what_to_type(compose_line: Compose) -> None:
    with pytest.raises(
        Refused, match=r"step rl reads sft, which --only rl leaves out.*not finished.*type --from sft"
    ):
        member_of([], span=StepRange("rl", "rl"))
    with pytest.raises(Refused, match=r"step dpo reads sft and pairs.*type --from sft --until dpo"):
        member_of(["pipeline=dpo_from_rewards"], span=StepRange("dpo", "dpo"))


def test_a_step_that_is_left_out_and_finished_is_taken(compose_line: Compose) -> None:
    steps = planned_steps(compose_line())
    finish(steps[1])
    member = member_of([], span=StepRange("rl"))
    assert [step.name for step in member.steps if step.runs] == ["rl", "evaluate-post-grpo"]
    with pytest.raises(Refused, match="step rl reads sft"):  # another SFT
        member_of(["pipeline.steps.sft.set.max_steps=7"], span=StepRange("rl"))


def test_what_comes_after_the_range_need_not_be_there(compose_line: Compose) -> None:
    member = member_of([], span=StepRange(None, "sft"))
    assert [step.name for step in member.steps if not step.runs] == ["rl", "evaluate-post-grpo"]


def test_a_step_runs_because_of_a_setting_or_because_of_a_step_it_reads(compose_line: Compose) -> None:
    for step in planned_steps(compose_line()):
        finish(step)
    changed = planned_steps(compose_line("pipeline.steps.sft.set.learning_rate=0.5"))
    found = {reason.step: reason.text for reason in reasons(changed, Durations(STORE))}
    assert list(found) == ["sft", "evaluate-post-sft", "rl", "evaluate-post-grpo"]
    assert found["sft"].startswith("learning_rate 0.5, was 0.002 (compared with")
    assert found["rl"].startswith("reads sft (compared with")
    assert not list(reasons(planned_steps(compose_line()), Durations(STORE)))


def test_a_step_runs_because_the_content_of_its_data_changed(compose_line: Compose) -> None:
    data = Path("sums.jsonl")
    overrides = [
        "stage=sft",
        "dataset=jsonl",
        f"dataset.path={data}",
        "dataset.num_test=1",
        "stage.rows_per_step=2",
    ]
    row = '{{"question": "{0} + 1?", "answer": "{0}", "solution": "so"}}\n'
    data.write_text("".join(row.format(number) for number in range(8)))
    finish(next(step for step in planned_steps(compose_line(*overrides)) if step.name == "sft"))
    data.write_text("".join(row.format(number) for number in range(9)))
    found = {
        reason.step: reason.text
        for reason in reasons(planned_steps(compose_line(*overrides)), Durations(STORE))
    }
    assert found["sft"].startswith("the content of dataset changed")
