"""Presets of published data sets, on small files of our own with the columns that the published ones have."""

import json
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml
from pydantic import TypeAdapter

from r1exp.dataset.base import Dataset
from r1exp.dataset.menu import DatasetSettings
from r1exp.errors import Refused
from r1exp.records import Completion
from r1exp.rewards.base import Context
from r1exp.rewards.choice import Choice

CONF = Path(__file__).parents[2] / "conf" / "dataset"
ADAPTER: TypeAdapter[DatasetSettings] = TypeAdapter(DatasetSettings)
Rows = list[dict[str, Any]]


def turns(question: str, answer: str) -> Rows:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


OPENR1_MATH = {
    "problem": "What is 1 + 1?", "solution": "One and one.", "answer": "2", "problem_type": "Algebra",
    "question_type": "math-word-problem", "source": "olympiads", "uuid": "u", "is_reasoning_complete": [True, False],
    "generations": ["<think>1</think> 2"], "correctness_math_verify": [True], "correctness_llama": None,
    "finish_reasons": None, "correctness_count": 1, "messages": turns("What is 1 + 1?", "<think>1</think> 2"),
}  # fmt: skip
NUMINA = {
    "problem": "What is 1 + 1?", "solution": "One and one.", "answer": "2", "problem_type": "Algebra",
    "question_type": "math-word-problem", "problem_is_valid": "Yes", "solution_is_valid": "Yes", "source": "olympiads",
    "synthetic": False,
}  # fmt: skip
GPQA = {
    "Question": "What is the charge of an electron?", "Correct Answer": "-1\n", "Incorrect Answer 1": "+1",
    "Incorrect Answer 2": "0", "Incorrect Answer 3": "2", "Explanation": "By convention.", "Record ID": "rec",
    "High-level domain": "Physics", "Subdomain": "Physics (general)", "Writer's Difficulty Estimate": None,
}  # fmt: skip
ULTRAFEEDBACK = {
    "prompt": "Hello?", "prompt_id": "p", "chosen": turns("Hello?", "Good day."), "rejected": turns("Hello?", "What?"),
    "messages": turns("Hello?", "Good day."), "score_chosen": 9.0, "score_rejected": 2.0,
}  # fmt: skip
CODEFORCES = {
    "id": "1/A", "aliases": None, "contest_id": "1", "contest_name": "One", "contest_type": "ICPC", "contest_start": 1,
    "contest_start_year": 2010, "index": "A", "time_limit": 1.0, "memory_limit": 64.0, "title": "Sum", "description": "Add.",
    "input_format": "Two numbers.", "output_format": "Their sum.", "interaction_format": None, "note": None,
    "examples": [{"input": "1 2", "output": "3"}], "editorial": None, "rating": 800, "tags": ["math"], "testset_size": 2,
    "official_tests": [{"input": "1 2\n", "output": "3\n"}, {"input": "4 5\n", "output": "9\n"}],
    "official_tests_complete": True, "input_mode": "stdio", "generated_checker": None, "executable": True,
    "generated_tests": 0, "prompt": "Add two numbers, in Python.", "language": "python",
}  # fmt: skip
GRADER = '#include <cstdio>\n#include "add.h"\nint main() { int a, b; if (scanf("%d %d", &a, &b) != 2) return 1; printf("%d\\n", add(a, b)); }\n'
IOI = {
    "year": 2024, "name": "Add", "id": "add", "day": "day1", "subtask": "01-small", "statement": "Everything.", "score": 40,
    "time_limit": 2.0, "memory_limit": 256 << 20, "score_precision": 2, "task_type": "Batch", "test_names": ["1-01", "1-02"],
    "starting_code": "int add(int a, int b);", "grader_files": [["graders/grader.cpp", GRADER], ["graders/add.h", "int add(int a, int b);"]],
    "problem": "Write add().",
}  # fmt: skip
IOI_TEST = {
    "year": 2024, "day": "day1", "problem_name": "Add", "problem_id": "add", "test_name": "1-01", "test_input": "1 2",
    "test_output": "3",
}  # fmt: skip


def preset(name: str, **changes: Any) -> Dataset:
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    return ADAPTER.validate_python(values | {"subset": None} | changes)


def write(folder: Path, name: str, rows: Rows) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(rows).to_parquet(folder / name)
    return folder


def numbered(row: dict[str, Any], number: int, *columns: str) -> Rows:
    """Return copies of a row whose columns differ."""
    return [row | {column: f"{row[column]} ({k})" for column in columns} for k in range(number)]


def test_openr1_math_is_read_as_problems_and_as_traces(tmp_path: Path) -> None:
    rows = numbered(OPENR1_MATH, 6, "problem", "uuid")
    rows[2]["answer"] = None  # a row without an answer is left out
    path = str(write(tmp_path, "train-00000-of-00001.parquet", rows))
    data = preset("openr1_math", path=path, num_test=1)
    problems = data.load("train") + data.load("test")
    assert {problem.id for problem in problems} == {f"u ({k})" for k in (0, 1, 3, 4, 5)}
    assert problems[0].answer == "2" and problems[0].columns["solution"] == "One and one."
    assert "generations" not in problems[0].columns and "row_messages" not in problems[0].columns
    columns = {"question": "messages", "answer": None, "solution": None, "id": "uuid"}
    traces = preset("openr1_math", path=path, num_test=0, columns=columns, drop=[], unanswered="refuse")
    assert traces.load("train")[0].completion == "<think>1</think> 2"


def test_numina_leaves_out_proofs_and_invalid_problems(tmp_path: Path) -> None:
    rows = numbered(NUMINA, 6, "problem")
    rows[0] |= {"question_type": "proof", "answer": "proof"}
    rows[1]["problem_is_valid"] = "Problem not solved"
    rows[2]["answer"] = ""
    data = preset("numina", path=str(write(tmp_path, "train.parquet", rows)), num_test=1)
    found = data.load("train") + data.load("test")
    assert len(found) == 3 and {problem.columns["source"] for problem in found} == {"olympiads"}
    nothing = preset("numina", path=data.model_dump()["path"], keep={"question_type": ["essay"]})
    with pytest.raises(
        Refused, match="none of the rows up to this one is left where question_type is one of"
    ):
        nothing.load("train")
    with pytest.raises(Refused, match=r"no column 'kind'.*dataset.keep"):
        preset("numina", path=data.model_dump()["path"], keep={"kind": ["x"]}).load("train")


def test_numina_tir_reads_the_answer_in_the_box(tmp_path: Path) -> None:
    rows = [
        {
            "problem": f"{k} + 1?",
            "solution": f"So $\\boxed{{{k + 1}}}$." if k else "No box.",
            "messages": turns("a", "b"),
        }
        for k in range(4)
    ]
    columns = {"question": "problem", "answer": "solution", "solution": "solution", "id": None}
    path = str(write(tmp_path, "train.parquet", rows))
    data = preset("numina", path=path, columns=columns, extract="boxed", keep={}, num_test=1)
    assert {problem.answer for problem in data.load("train") + data.load("test")} == {"2", "3", "4"}


def test_general_takes_chats_of_several_turns(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        *turns("Hi", "Hello"),
        *turns("How are you?", "Well."),
    ]
    rows: Rows = [
        {"messages": messages, "source": "everyday"},
        {"messages": turns("Why?", "So."), "source": "other"},
    ]
    data = preset("general", path=str(write(tmp_path, "train.parquet", rows)))
    first = data.load("train")[0]
    assert (first.prompt, first.completion, len(first.earlier), first.answer) == (
        "How are you?",
        "Well.",
        3,
        None,
    )
    assert not data.has_answers and not data.has_split("test")


def test_the_options_of_gpqa_are_shuffled_in_the_same_way_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = numbered(GPQA, 20, "Question", "Record ID")
    data = preset("gpqa", path=str(write(tmp_path / "a", "train.parquet", rows)))
    other = preset("gpqa", path=str(write(tmp_path / "b", "train.parquet", rows[::-1])))
    problems = {problem.id: problem for problem in data.load("test")}
    assert problems == {problem.id: problem for problem in other.load("test")}
    assert {problem.answer for problem in problems.values()} == set("ABCD")
    reward = Choice(style="think_answer", options="choices", gold="letter")
    for problem in problems.values():
        letter = str(problem.answer)
        choices = problem.columns["choices"]
        assert choices["ABCD".index(letter)] == "-1" and f"{letter}) -1" in problem.prompt
        for option, score in ((letter, 1.0), ("ABCD"[("ABCD".index(letter) + 1) % 4], 0.0)):
            text = f"<think>so</think>\n<answer>{option}</answer>"
            assert reward.score(problem, Completion(text, 9), Context()) == score
    assert set(next(iter(problems.values())).columns) == {
        "High-level domain",
        "Subdomain",
        "choices",
        "solution",
    }
    assert preset("gpqa", path=str(tmp_path / "a"), seed=1).load("test") != data.load("test")


def test_ultrafeedback_gives_pairs_and_leaves_out_those_without_a_preference(tmp_path: Path) -> None:
    rows = numbered(ULTRAFEEDBACK, 4, "prompt")
    for row in rows:
        row["chosen"], row["rejected"] = turns(row["prompt"], "Good day."), turns(row["prompt"], "What?")
    rows[0]["rejected"] = rows[0]["chosen"]
    rows[1]["rejected"] = turns(rows[1]["prompt"], " ")
    write(tmp_path / "data", "train_prefs-00000-of-00001.parquet", rows)
    write(tmp_path / "data", "test_prefs-00000-of-00001.parquet", rows[2:])
    header = {"configs": [{"config_name": "default", "data_files": [
        {"split": split, "path": f"data/{split}-*"} for split in ("train_prefs", "test_prefs")]}]}  # fmt: skip
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n")
    data = preset("ultrafeedback", path=str(tmp_path))
    pairs = data.load("train")
    assert [pair.prompt for pair in pairs] == ["Hello? (2)", "Hello? (3)"] and len(data.load("test")) == 2
    assert pairs[0].columns == {"chosen": "Good day.", "rejected": "What?"}
    with pytest.raises(Refused, match=r"dataset.unusable=drop"):
        preset("ultrafeedback", path=str(tmp_path), unusable="refuse").load("train")
    with pytest.raises(Refused, match=r"has no split 'train'.*train_prefs"):
        preset("ultrafeedback", path=str(tmp_path), train=None).load("train")


def test_codeforces_keeps_what_its_reward_reads(tmp_path: Path) -> None:
    rows = numbered(CODEFORCES, 3, "prompt")
    write(tmp_path, "train.parquet", rows[:2])
    write(tmp_path, "test.parquet", rows[2:])
    data = preset("codeforces", path=str(tmp_path))
    problems = data.load("train")
    assert [problem.id for problem in problems] == ["1/A", "1/A-2"]  # one problem in two languages
    assert problems[0].columns["official_tests"] == CODEFORCES["official_tests"]
    assert problems[0].columns["language"] == "python" and "description" not in problems[0].columns


@pytest.mark.parametrize("is_folder", [False, True], ids=["a file", "folders of years"])
def test_ioi_joins_problems_and_tests(tmp_path: Path, is_folder: bool) -> None:
    old = IOI | {"year": 2019, "problem": "Write sub().", "id": "sub"}
    write(tmp_path / "ioi", "train.parquet", [IOI, old])
    write(
        tmp_path / "ioi",
        "test.parquet",
        [IOI | {"subtask": "02", "problem": "Write add() for all.", "test_names": ["1-02"]}],
    )
    tests = [IOI_TEST, IOI_TEST | {"test_name": "1-02", "test_input": "2 2", "test_output": "4"}]
    folder = tmp_path / "tests" / "2024" if is_folder else tmp_path / "tests"
    write(folder, "train-00000-of-00001.parquet", [*tests, IOI_TEST | {"problem_id": "other"}])
    place = str(tmp_path / "tests" if is_folder else folder / "train-00000-of-00001.parquet")
    data = preset("ioi", path=str(tmp_path / "ioi"), tests=place, years=[2024])
    (problem,) = data.load("train")
    assert (
        problem.columns["test_cases"] == [["1 2", "3"], ["2 2", "4"]] and "statement" not in problem.columns
    )
    assert data.load("test")[0].columns["test_cases"] == [["2 2", "4"]]
    few = preset("ioi", path=str(tmp_path / "ioi"), tests=place, years=[2024], most_tests=1)
    assert few.load("train")[0].columns["test_names"] == ["1-01"] and few.fingerprint() != data.fingerprint()
    with pytest.raises(Refused, match=r"2 tests of the problem 'sub' are not in dataset.tests, first '1-01'"):
        preset("ioi", path=str(tmp_path / "ioi"), tests=str(folder), years=[2024, 2019]).load("train")


@pytest.mark.parametrize(
    ("name", "row", "column"),
    [
        ("openr1_math", OPENR1_MATH, "problem"), ("numina", NUMINA, "answer"), ("general", {"messages": turns("a", "b")}, "messages"),
        ("gpqa", GPQA, "Incorrect Answer 2"), ("gpqa", GPQA, "Correct Answer"), ("ultrafeedback", ULTRAFEEDBACK, "chosen"),
        ("codeforces", CODEFORCES, "prompt"), ("ioi", IOI, "test_names"), ("ioi", IOI, "problem"),
        ("limo", {"question": "a", "solution": "b", "answer": "c"}, "question"),
        ("math500", {"problem": "a", "solution": "b", "answer": "c", "unique_id": "d"}, "problem"),
        ("aime", {"problem": "a", "solution": "b", "answer": "7", "id": 1}, "answer"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_there_is_named(
    name: str, row: dict[str, Any], column: str, tmp_path: Path
) -> None:
    other = {key: value for key, value in row.items() if key != column} | {"something": "else"}
    for split in ("train", "test", "train_prefs", "test_prefs"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(other))
    changes: dict[str, Any] = {"path": str(tmp_path)}
    if name == "ioi":
        changes["tests"] = str(
            write(tmp_path / "tests", "train.parquet", [IOI_TEST, IOI_TEST | {"test_name": "1-02"}])
        )
    if name == "ultrafeedback":
        changes |= {
            "path": str(tmp_path / "train_prefs.jsonl"),
            "test": None,
            "unusable": "refuse",
            "test_share": 0.5,
        }
    data = preset(name, **changes)
    with pytest.raises(Refused, match=f"no column '{column}'"):
        data.load("train" if data.has_split("train") else "test")
