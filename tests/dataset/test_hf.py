"""dataset=hf: layouts that load, columns, extraction of answers, chats, and what is refused."""

import csv
import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow  # it ships no types
import pytest
import yaml
from pyarrow import parquet

from r1exp.dataset.columns import TAKEN_NAMES
from r1exp.dataset.hf import Hf
from r1exp.errors import Refused

CONF = Path(__file__).parents[2] / "conf" / "dataset"
Row = dict[str, Any]


def hf(path: Path | str, preset: str = "hf", **changes: Any) -> Hf:
    values = yaml.safe_load((CONF / f"{preset}.yaml").read_text(encoding="utf-8")) | {"path": str(path)}
    values["columns"] = values["columns"] | changes.pop("columns", {})
    return Hf.model_validate_json(json.dumps(values | changes), strict=True)


def rows(num_rows: int = 6, start: int = 0, **columns: Any) -> list[Row]:
    return [
        {"question": f"{n} + 1?", "answer": str(n + 1), "solution": f"{n} + 1 = {n + 1}", **columns}
        for n in range(start, start + num_rows)
    ]


def lines(path: Path, content: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def table(path: Path, content: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(content), path)
    return path


def comma_separated(path: Path, content: list[Row], delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(content[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(content)
    return path


def arrow(path: Path, content: list[Row]) -> Path:
    whole = pyarrow.Table.from_pylist(content)
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    return path


def zipped(path: Path, content: list[Row]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in content).encode()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text))
    else:
        with pyarrow.output_stream(str(path), compression="zstd") as stream:
            stream.write(text)
    return path


def hub_copy(folder: Path, content: list[Row]) -> Path:
    table(folder / "algebra" / "train-00000-of-00002.parquet", content[:3])
    table(folder / "algebra" / "train-00001-of-00002.parquet", content[3:])
    table(folder / "algebra" / "test-00000-of-00001.parquet", rows(2, start=50))
    header = {
        "configs": [
            {
                "config_name": "algebra",
                "data_files": [{"split": s, "path": f"algebra/{s}-*"} for s in ("train", "test")],
            }
        ]
    }
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n# A card\n")
    return folder


def saved(folder: Path, content: list[Row]) -> Path:
    """Write what `DatasetDict.save_to_disk` of datasets 5.2 writes, as far as it is read."""
    splits = {"train": content, "test": rows(2, start=50)}
    for name, part in splits.items():
        (folder / name).mkdir(parents=True)
        arrow(folder / name / "data-00000-of-00001.arrow", part)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": name}
        (folder / name / "state.json").write_text(json.dumps(state))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def split_files(folder: Path, content: list[Row]) -> Path:
    lines(folder / "data" / "train.jsonl", content)
    lines(folder / "data" / "test.jsonl", rows(2, start=50))
    return folder


LAYOUTS: dict[str, Callable[[Path, list[Row]], Path]] = {
    "problems.jsonl": lines,
    "problems.json": lambda path, content: (path.write_text(json.dumps(content, indent=1)), path)[1],
    "problems.csv": comma_separated,
    "problems.tsv": lambda path, content: comma_separated(path, content, "\t"),
    "problems.parquet": table,
    "problems.arrow": arrow,
    "problems.jsonl.gz": zipped,
    "problems.jsonl.zst": zipped,
    "saved_to_disk": saved,
    "copy_of_a_hub_repository": hub_copy,
    "files_named_after_splits": split_files,
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_problems(layout: str, tmp_path: Path) -> None:
    path = LAYOUTS[layout](tmp_path / layout, rows())
    data = (
        hf(path)
        if path.is_dir()
        else hf(path, test_path=str(lines(tmp_path / "test.jsonl", rows(2, start=50))))
    )
    problems = data.load("train")
    assert [(p.prompt, p.answer, p.columns) for p in problems] == [
        (f"{n} + 1?", str(n + 1), {"solution": f"{n} + 1 = {n + 1}"}) for n in range(6)
    ]
    assert [data.count("train"), data.count("test")] == [6, 2]
    assert data.fingerprint() != hf(path, num_test=3).fingerprint()


def test_what_save_to_disk_writes_is_read_and_a_hub_id_uses_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    whole = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(rows()), "test": datasets.Dataset.from_list(rows(2, 50))}
    )
    whole.save_to_disk(str(tmp_path / "saved"))
    assert [len(hf(tmp_path / "saved").load(split)) for split in ("train", "test")] == [6, 2]
    # In place of the network: `load_dataset` finds the repository in a folder.
    hub_copy(tmp_path / "repository", rows())
    load, names = datasets.load_dataset, datasets.get_dataset_split_names
    monkeypatch.setattr(
        "datasets.load_dataset",
        lambda path, *a, **k: load(str(tmp_path / "repository"), *a, **k, cache_dir=str(tmp_path / "cache")),
    )
    monkeypatch.setattr(
        "datasets.get_dataset_split_names", lambda path, *a, **k: names(str(tmp_path / "repository"), *a, **k)
    )
    data = hf("someone/repository", subset="algebra")
    assert data.count("train") is None  # before the download
    assert [problem.answer for problem in data.load("test")] == ["51", "52"]
    assert len(data.load("train")) == 6
    with pytest.raises(
        Refused, match=r"has no split 'tset', only \['test', 'train'\]; type dataset.test=test"
    ):
        hf("someone/repository", subset="algebra", test="tset").load("train")


OFFLINE = """
import sys, yaml, json
from r1exp.dataset.hf import Hf
values = yaml.safe_load(open(sys.argv[1])) | {"path": "someone/not-in-the-cache"}
data = Hf.model_validate_json(json.dumps(values), strict=True)
assert data.fingerprint() and data.count("train") is None and "datasets" not in sys.modules
try:
    data.check_source()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_a_hub_id_that_cannot_be_downloaded_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(CONF / "hf.yaml")],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(
        "Refused someone/not-in-the-cache (default) could not be downloaded from the hub"
    )
    assert "HF_HUB_OFFLINE" in done.stdout


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("{here}/folder", "neither a file or folder on this machine nor a hub id", id="absolute"),
        pytest.param("./folder", "neither a file or folder", id="relative"),
        pytest.param(
            "here/folder",
            "did you mean here/folders.* type dataset.path=hf://datasets/here/folder",
            id="the parent is there",
        ),
        pytest.param(
            "gone/train.jsonl", "gone/train.jsonl cannot be read: No such file", id="a file's ending"
        ),
        pytest.param("a/b/c", "neither a file or folder", id="three parts"),
        pytest.param("gsm8k", "nor a hub id", id="no owner"),
        pytest.param("hf://datasets/gsm8k", "comes owner/name", id="no owner on the hub"),
    ],
)
def test_a_path_that_is_not_there_is_no_hub_id(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "folders").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=message):
        hf(path.format(here=tmp_path)).load("train")


def test_nested_columns_and_answers_in_a_struct_are_found(tmp_path: Path) -> None:
    content = [{"problem": f"{n}?", "extra": {"answer": {"value": n}, "cot": [f"is {n}"]}} for n in range(4)]
    path = table(tmp_path / "nested.parquet", content)
    names = {"question": "problem", "answer": "extra.answer.value", "solution": "extra.cot.0"}
    problem = hf(path, columns=names, num_test=0).load("train")[2]
    assert (problem.prompt, problem.answer, problem.columns["solution"]) == ("2?", "2", "is 2")
    with pytest.raises(
        Refused, match=r"has no column 'extra.anwser.value', only .*dataset.columns.answer=extra.answer.value"
    ):
        hf(path, columns={**names, "answer": "extra.anwser.value"}, num_test=0).load("train")
    with pytest.raises(
        Refused, match=r"no row has the column 'extra.cott'.*dataset.columns.solution=extra.cot"
    ):
        hf(path, columns={**names, "solution": "extra.cott"}, num_test=0).load("train")


@pytest.mark.parametrize(
    ("text", "rule", "answer"),
    [
        pytest.param("so\n#### 1,234", "hash", "1,234", id="hash"),
        pytest.param(
            r"\boxed{1} then \boxed{\frac{a}{b}}",
            "boxed",
            r"\frac{a}{b}",
            id="the last box with braces inside",
        ),
        pytest.param("The answer is 7. The answer is 9.", r"answer is (\d+)", "9", id="the last match"),
        pytest.param(" 42 ", "whole", " 42 ", id="whole"),
        pytest.param("no mark", "hash", None, id="no hash"),
        pytest.param(r"\boxed{1", "boxed", None, id="an open box"),
        pytest.param("none", r"answer is (\d+)", None, id="no match"),
    ],
)
def test_the_answer_is_extracted_by_a_rule(text: str, rule: str, answer: str | None, tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{"question": "1?", "answer": text}])
    data = hf(path, extract=rule, num_test=0)
    if answer is None:
        with pytest.raises(Refused, match=r"rows\.jsonl, line 1: column 'answer' has no"):
            data.load("train")
    else:
        assert data.load("train")[0].answer == answer


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        pytest.param("bxed", "did you mean boxed", id="misspelt"),
        pytest.param("answer is", "needs one group", id="no group"),
        pytest.param("(a", "no regular expression", id="broken"),
    ],
)
def test_a_rule_that_is_none_is_refused(rule: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        hf(tmp_path, extract=rule)


SYSTEM, ASK = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}
REPLY = {"role": "assistant", "content": "<reasoning>1 + 1 = 2</reasoning>\n<answer>2</answer>"}


def test_chat_rows_give_the_last_turn_of_the_assistant_as_it_is(tmp_path: Path) -> None:
    """The form of a published course's SFT rows: system, user, assistant."""
    path = lines(tmp_path / "chats.jsonl", [{"messages": [SYSTEM, ASK, REPLY]}])
    [problem] = hf(path, "chat").load("train")
    assert (problem.prompt, problem.earlier, problem.completion) == ("1 + 1?", (SYSTEM,), REPLY["content"])
    assert not hf(path, "chat").has_answers
    rule = r"<answer>(.*?)</answer>"
    assert hf(path, "chat", columns={"answer": "messages"}, extract=rule).load("train")[0].answer == "2"


def test_a_prompt_may_be_a_chat_with_earlier_turns(tmp_path: Path) -> None:
    turns = [ASK, {"role": "assistant", "content": "2"}, {"role": "user", "content": "And one more?"}]
    path = lines(tmp_path / "chats.jsonl", [{"prompt": turns, "answer": 3}])
    [problem] = hf(path, columns={"question": "prompt"}, num_test=0).load("train")
    assert (problem.prompt, problem.answer, problem.completion) == ("And one more?", "3", None)
    assert problem.messages == turns
    assert type(problem).from_row(problem.to_row([])) == problem  # as a reward receives it


def test_the_form_of_sharegpt_and_lists_of_parts_are_read(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    parts = [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Hello"},
    ]
    for content in (talk, parts):
        [problem] = hf(lines(tmp_path / "talk.jsonl", [{"messages": content}]), "chat").load("train")
        assert (problem.prompt, problem.completion) == ("Hi", "Hello")


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        pytest.param([], r"have the roles \[\]", id="none"),
        pytest.param([ASK, ASK], "must take turns", id="two questions"),
        pytest.param([ASK, SYSTEM, ASK], "must take turns", id="system text in the middle"),
        pytest.param([REPLY], "must take turns", id="an answer only"),
        pytest.param([{"role": "tool", "content": "x"}], "role 'tool'", id="a tool"),
        pytest.param(["1 + 1?"], "holds a text; a message is an object", id="texts"),
        pytest.param([{"role": "user", "content": None}], "holds null", id="no content"),
        pytest.param([{"role": "user", "content": [{"type": "image"}]}], "more than text", id="an image"),
    ],
)
def test_a_conversation_that_cannot_be_learned_is_refused(
    messages: Any, message: str, tmp_path: Path
) -> None:
    path = lines(tmp_path / "chats.jsonl", [{"messages": messages}])
    with pytest.raises(Refused, match=rf"chats\.jsonl, line 1: .*{message}"):
        hf(path, "chat").load("train")


def test_columns_with_the_names_of_a_trainers_arguments_are_renamed(tmp_path: Path) -> None:
    taken: Row = {"images": 1, "completions": 2, "trainer_state": 3, "prompt": "x", "level": 4}
    path = lines(tmp_path / "rows.jsonl", rows(2, **taken))
    problem = hf(path, num_test=0).load("train")[0]
    renamed = {"row_images": 1, "row_completions": 2, "row_trainer_state": 3, "row_prompt": "x"}
    assert problem.columns == {**renamed, "level": 4, "solution": "0 + 1 = 1"}
    assert problem.to_row([])["prompt"] == []
    dropped = hf(path, num_test=0, drop=["images", "completions", "trainer_state", "prompt"]).load("train")[0]
    assert dropped.columns == {"level": 4, "solution": "0 + 1 = 1"}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        pytest.param({"level": "hard"}, r"'level' holds a text, and a number in .*line 1", id="mixed types"),
        pytest.param(
            {"tags": ["a", 1]}, r"'tags\[\]' holds a number, and a text in", id="mixed types in a list"
        ),
        pytest.param({"level": 2**63}, "must fit into 64 bits", id="an integer of 65 bits"),
        pytest.param(
            {"extra": {"deep": [-(2**70)]}}, "'extra.deep' holds .* must fit into 64", id="nested integer"
        ),
        pytest.param({"note": "\ud800"}, "half of a surrogate pair", id="half a surrogate pair"),
        pytest.param({"note": {"\udfff": 1}}, "half of a surrogate pair", id="in a name"),
    ],
)
def test_what_a_trainer_could_not_store_is_refused_by_line(second: Row, message: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [*rows(1, level=1), *(row | second for row in rows(1, start=1))])
    with pytest.raises(Refused, match=rf"rows\.jsonl, line 2: .*{message}"):
        hf(path, num_test=0).count("train")


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "1?", "answer": 1e400}\n')
    with pytest.raises(Refused, match=r"line 1: column 'answer' holds inf"):
        hf(path, num_test=0).load("train")
    path.write_text('{"question": "1?", "answer": 18446744073709551616}\n')
    assert hf(path, num_test=0).load("train")[0].answer == "18446744073709551616"  # a text from here on


def test_one_question_in_two_forms_of_unicode_is_one_question(tmp_path: Path) -> None:
    composed, decomposed = ({"question": form, "answer": "1"} for form in ("Caf\u00e9?", "Cafe\u0301?"))
    train = lines(tmp_path / "train.jsonl", [composed, *rows(3)])
    test = lines(tmp_path / "test.jsonl", [decomposed])
    with pytest.raises(Refused, match=r"1 questions are in both .*shared_questions=drop"):
        hf(train, test_path=str(test)).load("train")
    assert len(hf(train, test_path=str(test), shared_questions="drop").load("train")) == 3
    both = lines(tmp_path / "both.jsonl", [composed, decomposed])
    with pytest.raises(Refused, match="1 different questions"):
        hf(both, num_test=1).load("train")


def test_a_solution_that_is_null_is_not_taken_from_another_column(tmp_path: Path) -> None:
    content = [row | {"cot": "thought"} for row in rows(2)] + [
        row | {"cot": None} for row in rows(1, start=2)
    ]
    data = hf(lines(tmp_path / "rows.jsonl", content), columns={"solution": "cot"}, num_test=0)
    first, _, last = data.load("train")
    assert (first.columns["solution"], "solution" in last.columns) == ("thought", False)
    assert last.columns["row_solution"] == "2 + 1 = 3"
    assert "line 3: the row has no solution" in str(data.unteachable())


BROKEN_FILES = {
    "rows.json": ('{\n "data": [1]}', "neither a JSON array of objects nor one object per line"),
    "open.json": ('[{"question": "1?", "answer": "1"}', "the array does not end"),
    "list.json": ("[[1]]", "row 0: this is a list"),
    "comma.json": ('[{"question": "1?", "answer": "1"} {}]', "neither a comma"),
    "rows.csv": ("question,answer\n1?,2,3\n", "line 2: the row has 3 fields and line 1 names 2"),
    "twice.csv": ("question,question\n1?,2\n", "two columns are named 'question'"),
    "rows.parquet": ("PAR", "cannot be read as Parquet"),
    "rows.arrow": ("ARROW", "cannot be read as Arrow"),
    "rows.jsonl.gz": ("no gzip", "cannot be read: Not a gzipped file"),
    "rows.jsonl.zst": ("no zstd", "cannot be read"),
    "rows.xlsx": ("x", "a data file ends in one of"),
    "empty.csv": ("question,answer\n", "is empty"),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_file_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    content, message = BROKEN_FILES[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(Refused, match=message):
        hf(tmp_path / name, num_test=0).load("train")


def test_a_long_json_array_is_read_element_by_element(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r1exp.dataset.readers._CHARACTERS_PER_READ", 7)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows(20), indent=3))
    assert len(hf(path, num_test=0).load("train")) == 20


def test_a_subset_is_chosen_by_name(tmp_path: Path) -> None:
    folder = hub_copy(tmp_path / "repository", rows())
    assert hf(folder).count("train") == 6  # the only one
    with pytest.raises(Refused, match=r"has no subset 'algbra': \['algebra'\]; type dataset.subset=algebra"):
        hf(folder, subset="algbra").count("train")


def test_an_empty_field_of_a_csv_file_is_null(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('question,answer,solution,id\n"1, or 2?",1,,\n')
    [problem] = hf(path, num_test=0).load("train")
    assert (problem.prompt, problem.columns) == ("1, or 2?", {})
    path.write_text("question,answer\n1?,\n")
    with pytest.raises(Refused, match=r"line 2: column 'answer' holds null"):
        hf(path, num_test=0).load("train")


def test_every_name_that_trl_gives_to_a_reward_function_is_taken() -> None:
    """Read from the source of the installed version, so that a new name is noticed."""
    text = Path(str(find_spec("trl.trainer.grpo_trainer").origin)).read_text(encoding="utf-8")  # type: ignore[union-attr]
    given = set(re.findall(r'reward_kwargs\["(\w+)"\] = ', text))
    given |= set(re.findall(r"(\w+)=\w+", re.findall(r"\bprompts=prompts, completions=[^*]*", text)[0]))
    assert {"trainer_state", "log_metric", "environments", "completion_ids"} <= given
    assert given <= TAKEN_NAMES


def test_a_limit_stops_reading_and_repeated_ids_cost_no_more(tmp_path: Path) -> None:
    content = [row | {"id": "same"} for row in rows(3000)]
    test = lines(tmp_path / "test.jsonl", rows(1, start=9000))
    path = lines(tmp_path / "train.jsonl", content)
    ids = [problem.id for problem in hf(path, test_path=str(test)).load("train")]
    assert ids[:3] == ["same", "same-2", "same-3"] and len(set(ids)) == 3000
    with path.open("a") as file:
        file.write("broken\n")
    assert hf(path, test_path=str(test), limit=10).count("train") == 10  # the broken line is never reached


PUBLISHED: dict[str, Row] = {
    "limo": {"question": "q{}", "solution": "long\n\\boxed{{{}}}", "answer": "{}"},
    "math500": {"problem": "q{}", "solution": "so", "answer": "{}", "subject": "Algebra", "level": 2, "unique_id": "test/{}.json"},
    "aime": {"id": 60, "problem": "q{}", "solution": "so", "answer": "{}", "url": "https://...", "year": "2024"},
}  # fmt: skip


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_preset_reads_the_published_layout(preset: str, tmp_path: Path) -> None:
    content = [
        {
            name: value.format(n) if isinstance(value, str) else value
            for name, value in PUBLISHED[preset].items()
        }
        for n in range(60)
    ]
    split = "test" if preset == "math500" else "train"
    data = hf(table(tmp_path / f"{split}-00000-of-00001.parquet", content).parent, preset)
    problems = data.load("test")
    assert len(problems) == (50 if preset == "limo" else 60)
    assert all(problem.prompt == f"q{problem.answer}" for problem in problems)
    if preset != "limo":
        for kind in (data, hf("someone/repository", preset)):  # known before a download
            with pytest.raises(Refused, match="for evaluation and has no training problems"):
                kind.count("train")
