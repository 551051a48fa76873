"""stage=filter: which rows stay, in which order, with which facts; and what its messages say."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused, StepFailed
from r1exp.plan.steps import planned_steps
from r1exp.stage.filter_rows import filter_rows
from r1exp.stage.step import Step

Freeze = Callable[..., Step]
Compose = Callable[..., Experiment]
GARDEN = (
    "Mia plants 14 tulips and 9 roses in the garden behind her house. How many flowers does Mia plant there?"
)
ROPE = "A rope of 90 meters is cut into pieces of 6 meters. How many pieces of rope are there in the end?"
TESTS = [{"question": GARDEN, "answer": "23"}, {"question": "What is 8 times 9?", "answer": "72"}]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_in(folder: Path, name: str = "data") -> list[dict[str, Any]]:
    lines = (folder / "artifact" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def filtered(frozen: Freeze, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that filters rows against TESTS, and returns the folder of the step."""

    def run(rows: list[dict[str, Any]], *overrides: str) -> Path:
        write(tmp_path / "rows.jsonl", rows)
        write(tmp_path / "test.jsonl", TESTS)
        folder = tmp_path / "step"
        folder.mkdir(exist_ok=True)
        data = [
            "dataset=jsonl",
            f"dataset.path={tmp_path / 'rows.jsonl'}",
            f"dataset.test_path={tmp_path / 'test.jsonl'}",
        ]
        shared = "dataset.limit=1000"
        filter_rows(
            frozen("stage=filter", *data, shared, f"stage.path={tmp_path / 'rows.jsonl'}", *overrides), folder
        )
        return folder

    return run


def row(name: str, question: Any, **columns: Any) -> dict[str, Any]:
    return {"id": name, "question": question, "answer": "1", **columns}


ROWS = [
    row("rope", ROPE, topic={"unit": "m"}),
    row("garden", GARDEN.replace("Mia", "Otto").replace("14", "twenty").replace("her", "his")),
    row("product", "what is 8 times 9"),
    row("rope again", ROPE.upper()),
    row("nearly", f"{ROPE} Think about it well before you write down an answer to this question."),
    row("nearly again", f"{ROPE} Think about it well before you write down an answer to this question. Really."),
    row("chat", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who wrote Faust, and when was it printed?"}]),
]  # fmt: skip


def test_copies_and_duplicates_are_left_out_and_the_others_stay_as_they_were(
    filtered: Callable[..., Path],
) -> None:
    folder = filtered(ROWS)
    assert rows_in(folder) == [ROWS[0], ROWS[4], ROWS[6]]
    assert [(each["id"], each["reason"]) for each in rows_in(folder, "dropped")] == [
        ("garden", "contamination"), ("product", "contamination"), ("rope again", "duplicate"), ("nearly again", "near_duplicate"),
    ]  # fmt: skip
    facts = json.loads((folder / "artifact" / "facts.json").read_text())
    assert (facts["num_rows"], facts["num_kept"], facts["evaluated"]) == (7, 3, {"test": 2})
    assert facts["dropped"] == {"contamination": 2, "duplicate": 1, "near_duplicate": 1}
    garden = facts["examples"]["contamination"][0]
    assert (garden["id"], garden["how"], garden["copied_text"]) == ("garden", "near", GARDEN)
    assert garden["copy_of"].startswith("test/")
    nearly = facts["examples"]["near_duplicate"][0]
    assert (nearly["id"], nearly["copy_of"]) == ("nearly again", "nearly")
    assert nearly["value"] > 0.8
    assert not list(folder.glob(".filter-*"))


def test_what_is_null_is_not_looked_for(filtered: Callable[..., Path]) -> None:
    folder = filtered(ROWS, "stage.contamination=null", "stage.duplicates=null", "stage.near_duplicates=null")
    assert rows_in(folder) == ROWS
    assert json.loads((folder / "artifact" / "facts.json").read_text())["dropped"] == {}


def test_answers_to_the_same_question_are_duplicates_only_where_rows_are_compared(
    filtered: Callable[..., Path],
) -> None:
    rows = [
        row(name, ROPE, solution=text)
        for name, text in (("a", "90 / 6 = 15"), ("b", "6 * 15 = 90"), ("c", "90 / 6 = 15"))
    ]
    assert [each["id"] for each in rows_in(filtered(rows))] == ["a"]
    rest = ("stage.duplicates=row", "stage.near_duplicates=null")
    assert [each["id"] for each in rows_in(filtered(rows, *rest))] == ["a", "b"]


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        pytest.param(("stage.min_pass_rate=0.25",), ["some", "all", "unknown"], id="lower"),
        pytest.param(("stage.max_pass_rate=0.25",), ["none", "some", "unknown"], id="upper"),
        pytest.param(("stage.min_pass_rate=0.1", "stage.max_pass_rate=0.9"), ["some", "unknown"], id="both"),
    ],
)
def test_rows_outside_the_bounds_of_the_pass_rate_are_left_out(
    overrides: tuple[str, ...], kept: list[str], filtered: Callable[..., Path]
) -> None:
    rates = {"none": 0, "some": 0.25, "all": 1.0, "unknown": None}
    rows = [row(name, f"Which {name} of the rivers is long?", pass_rate=rate) for name, rate in rates.items()]
    assert [each["id"] for each in rows_in(filtered(rows, *overrides))] == kept


def test_a_row_without_a_pass_rate_is_refused_with_what_to_type(filtered: Callable[..., Path]) -> None:
    rows = [row("a", ROPE, pass_rate=0.5), row("b", "Another question about ropes?")]
    with pytest.raises(
        Refused,
        match=r"line 2: the row has no column pass_rate, which stage.min_pass_rate needs; stage=sample",
    ):
        filtered(rows, "stage.min_pass_rate=0.1")
    with pytest.raises(Refused, match="holds 'half'; it must be a share of correct answers between 0 and 1"):
        filtered([row("a", ROPE, pass_rate="half")], "stage.min_pass_rate=0.1")


def test_the_plan_refuses_a_bound_without_its_column(compose_line: Compose) -> None:
    with pytest.raises(Refused, match="no column pass_rate"):
        planned_steps(compose_line("stage=filter", "stage.min_pass_rate=0.1"))


def test_rows_in_other_languages_are_left_out(filtered: Callable[..., Path]) -> None:
    rows = [row("en", ROPE), row("zh", "小明有三个苹果，又买了五个，现在一共有多少个？"), row("none", "$3 + 4$"),
            row("ru", "Сколько метров верёвки осталось у садовника?")]  # fmt: skip
    assert [each["id"] for each in rows_in(filtered(rows, "stage.languages=[en,zh]"))] == ["en", "zh", "none"]


def test_tokens_are_counted_as_the_model_receives_them(filtered: Callable[..., Path]) -> None:
    rows = [row("short", "1 + 1?"), row("long", "1 + 1? " * 20), row("solved", "2 + 2?", solution="2 " * 60)]
    folder = filtered(rows, "stage.max_prompt_tokens=60", "stage.max_total_tokens=80")
    assert [each["id"] for each in rows_in(folder)] == ["short"]
    reasons = {each["id"]: each["reason"] for each in rows_in(folder, "dropped")}
    assert reasons == {"long": "max_prompt_tokens", "solved": "max_total_tokens"}


def test_a_conversation_stays_as_it_was(filtered: Callable[..., Path]) -> None:
    turns = [{"role": "user", "content": "Who wrote Faust?"}, {"role": "assistant", "content": "Goethe."}]
    rows = [{"id": "a", "messages": turns}, {"id": "b", "messages": turns}]
    assert rows_in(filtered(rows)) == rows[:1]


def test_if_no_row_is_left_the_message_says_why(filtered: Callable[..., Path]) -> None:
    with pytest.raises(StepFailed, match=r"none of the 1 rows is left: 1 by contamination; loosen"):
        filtered([row("a", GARDEN)])


def test_the_training_problems_of_a_data_set_are_filtered_against_its_test_split(
    frozen: Freeze, tmp_path: Path
) -> None:
    step = frozen("stage=filter", "dataset.num_train=40", "dataset.num_test=400")
    filter_rows(step, tmp_path)
    facts = json.loads((tmp_path / "artifact" / "facts.json").read_text())
    assert (facts["num_rows"], facts["evaluated"]) == (40, {"test": 400})
    # Sums of one wording and different numbers are no copies of each other: they are a template.
    assert facts["dropped"]["contamination"] == 0
    assert facts["num_templates"] > 300
    assert set(rows_in(tmp_path)[0]) >= {"id", "question", "answer", "solution"}


def test_every_suite_and_further_data_sets_are_evaluated_questions(
    compose_line: Compose, tmp_path: Path
) -> None:
    mine = write(tmp_path / "mine.jsonl", TESTS)
    experiment = compose_line(
        "stage=filter", "evaluation.suites=[arithmetic]", "stage.contamination.against.mine.dataset=jsonl",
        f"stage.contamination.against.mine.dataset.path={mine}", f"stage.contamination.against.mine.dataset.test_path={mine}",
        "dataset.num_train=50",
    )  # fmt: skip
    config = experiment.steps[0].config
    assert config.stage is not None
    assert set(config.stage.evaluated(config)) == {"test", "arithmetic", "mine"}  # type: ignore[attr-defined] # of Filter


def test_rows_without_any_evaluated_question_are_refused(compose_line: Compose, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS[:1])
    line = ["stage=filter", "dataset=jsonl", f"dataset.path={path}", "dataset.num_test=0"]
    with pytest.raises(
        Refused, match=r"no test problems, .* evaluation.suites=\[gsm8k\], or type stage.contamination=null"
    ):
        planned_steps(compose_line(*line))
    (step,) = planned_steps(compose_line(*line, "stage.contamination=null"))
    assert step.num_problems == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stage.duplicates=null", "has no effect with duplicates=null; add stage.near_duplicates=null"),
        ("stage.min_pass_rate=0.9", "above max_pass_rate=0.5"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    override: str, message: str, compose_line: Compose
) -> None:
    with pytest.raises(Refused, match=message):
        compose_line("stage=filter", "stage.max_pass_rate=0.5", override)


def test_in_a_pipeline_the_rows_are_those_of_the_step_and_the_data_set_says_what_is_evaluated(
    compose_line: Compose,
) -> None:
    experiment = compose_line(
        "evaluation.before=false", "evaluation.after=false",
        "++pipeline.steps.clean_rows={use: {stage: filter}, data_from: sft}",
    )  # fmt: skip
    step = planned_steps(experiment)[-1]
    assert step.config.stage is not None
    assert step.config.stage.path == "artifact:sft/data.jsonl"  # type: ignore[attr-defined] # of Filter
    assert step.config.dataset.kind == "arithmetic"
    assert step.reads == ("sft",)


def test_a_data_set_without_a_file_is_refused_in_a_pipeline(compose_line: Compose) -> None:
    experiment = compose_line(
        "++pipeline.steps.clean_rows={use: {stage: filter, dataset: jsonl}, data_from: sft}"
    )
    with pytest.raises(
        Refused, match=r"data_from=sft gives the rows, and dataset=jsonl .* leave the step's dataset out"
    ):
        planned_steps(experiment)


def keys(compose_line: Compose, *overrides: str) -> str:
    (step,) = planned_steps(compose_line("stage=filter", *overrides))
    return step.key


def test_the_key_changes_with_what_decides_the_result(compose_line: Compose) -> None:
    own = keys(compose_line)
    for other in ("stage.near_duplicates=0.7", "dataset.num_test=999", "stage.max_prompt_tokens=9"):
        assert keys(compose_line, other) != own
    assert keys(compose_line, "prompt.system=Think.") == own
    with_tokens = keys(compose_line, "stage.max_prompt_tokens=90")
    assert keys(compose_line, "stage.max_prompt_tokens=90", "prompt.system=Think.") != with_tokens


def test_filtering_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, r1exp.stage.filter_rows, datasketch; from r1exp.filtering.duplicates import Duplicates; "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Path]:
    """Yield the scratch folder that a killed execution of the step left."""
    folder = tmp_path / "step" / ".filter-killed"
    folder.mkdir(parents=True)
    (folder / "bands").write_bytes(b"half")
    yield folder


def test_a_killed_step_begins_again_with_the_same_result(left: Path, filtered: Callable[..., Path]) -> None:
    folder = filtered(ROWS)
    assert not left.exists()
    first = (folder / "artifact" / "dropped.jsonl").read_bytes()
    for path in (folder / "artifact").iterdir():
        path.unlink()
    (folder / "artifact").rmdir()
    assert (filtered(ROWS) / "artifact" / "dropped.jsonl").read_bytes() == first
