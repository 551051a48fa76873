import json
import stat
from pathlib import Path
from typing import Any

import pytest

from r1exp.dataset.jsonl import Jsonl
from r1exp.errors import Refused


def jsonl(path: Path | None, **changes: Any) -> Jsonl:
    values: dict[str, Any] = {"kind": "jsonl", "path": path and str(path), "test_path": None, "num_test": 2}
    values |= {"question": "question", "answer": "answer", "solution": "solution"}
    return Jsonl.model_validate(values | {"limit": None, "test_limit": None} | changes)


def rows(num_rows: int, **columns: Any) -> list[dict[str, Any]]:
    return [{"question": f"{n} + 1?", "answer": str(n + 1), **columns} for n in range(num_rows)]


def write(path: Path, content: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in content))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "problems.jsonl", rows(10))


def test_held_out_and_training_questions_are_all_questions(file: Path) -> None:
    train, test = jsonl(file).load("train"), jsonl(file).load("test")
    assert [len(train), len(test)] == [8, 2]
    assert sorted(p.prompt for p in [*train, *test]) == [f"{n} + 1?" for n in range(10)]


def test_held_out_questions_depend_only_on_the_questions(file: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", rows(10, level="easy")[::-1])
    held_out = {(problem.id, problem.prompt) for problem in jsonl(file).load("test")}
    assert {(problem.id, problem.prompt) for problem in jsonl(other).load("test")} == held_out


def test_a_repeated_question_is_in_one_split_only(tmp_path: Path) -> None:
    file = write(tmp_path / "twice.jsonl", rows(10) + rows(10))
    train, test = jsonl(file).load("train"), jsonl(file).load("test")
    assert [len(train), len(test)] == [16, 4]
    assert not {problem.prompt for problem in train} & {problem.prompt for problem in test}
    assert len({problem.id for problem in [*train, *test]}) == 20


def test_columns_can_have_other_names_and_other_columns_are_kept(tmp_path: Path) -> None:
    row = {"q": "1 + 1?", "gold": 2, "cot": "1 + 1 = 2", "level": 3, "id": "easy-1"}
    file = write(tmp_path / "named.jsonl", [row])
    data = jsonl(file, question="q", answer="gold", solution="cot", num_test=0)
    [problem] = data.load("train")
    assert (problem.id, problem.prompt, problem.answer) == ("easy-1", "1 + 1?", "2")
    assert problem.columns == {"solution": "1 + 1 = 2", "level": 3}


def test_with_a_test_file_nothing_is_held_out(file: Path, tmp_path: Path) -> None:
    test_file = write(tmp_path / "test.jsonl", [{"question": "99 + 1?", "answer": "100"}])
    data = jsonl(file, test_path=str(test_file), limit=9)
    assert [len(data.load("train")), len(data.load("test"))] == [9, 1]


def test_a_test_question_among_the_training_questions_is_refused(file: Path, tmp_path: Path) -> None:
    test_file = write(tmp_path / "test.jsonl", rows(1))
    with pytest.raises(Refused, match="1 questions are in both"):
        jsonl(file, test_path=str(test_file)).load("train")


def test_the_fingerprint_depends_on_content_and_settings_but_not_on_the_path(file: Path) -> None:
    before = jsonl(file).fingerprint()
    moved = file.rename(file.with_name("moved.jsonl"))
    assert jsonl(moved).fingerprint() == before
    assert jsonl(moved, num_test=3).fingerprint() != before
    write(moved, rows(11))
    assert jsonl(moved).fingerprint() != before


GOOD = json.dumps({"question": "1 + 1?", "answer": "2"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "is empty", id="empty file"),
        pytest.param("\n \n", "is empty", id="blank lines only"),
        pytest.param(f"{GOOD}\n{{broken\n", "line 2: this is not JSON", id="broken line"),
        pytest.param(f"\n{GOOD}\n[1]", "line 3: this is a list", id="not an object"),
        pytest.param("[" * 100_000, "line 1: this is not JSON", id="deep nesting"),
        pytest.param('{"answer": NaN}', "line 1: this is not JSON", id="NaN"),
        pytest.param('{"question": "1 + 1?"}', "no column 'answer'", id="no answer"),
        pytest.param('{"question": "1?", "anwser": "2"}', "dataset.answer=anwser", id="misspelt column"),
        pytest.param('{"question": "1?", "answer": null}', "holds null", id="null answer"),
        pytest.param('{"question": "1?", "answer": " "}', "is blank", id="blank answer"),
        pytest.param('{"question": "1?", "answer": ["2"]}', "holds a list", id="answer of a wrong type"),
        pytest.param('{"question": "1?", "answer": true}', "holds true or false", id="true is not an answer"),
        pytest.param('{"question": {}, "answer": "2"}', "holds an object", id="question of a wrong type"),
        pytest.param(r'{"question": "\ud800", "answer": "2"}', "surrogate", id="half a surrogate pair"),
        pytest.param(
            '{"question": "1?", "answer": "2", "images": 1, "row_images": 2}',
            "rename one",
            id="reserved name",
        ),
        pytest.param(GOOD, "leaves none to train on", id="too few to hold out"),
    ],
)
def test_bad_content_is_refused_with_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(content)
    with pytest.raises(Refused, match=message) as refusal:
        jsonl(file).load("train")
    assert str(file) in str(refusal.value)


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "latin.jsonl"
    file.write_bytes(b'{"question": "caf\xe9", "answer": "2"}')
    with pytest.raises(Refused, match="is not UTF-8 text"):
        jsonl(file).load("train")


@pytest.mark.parametrize("use", [lambda data: data.load("test"), lambda data: data.fingerprint()])
def test_a_missing_file_is_refused_with_a_similar_name(file: Path, use: Any) -> None:
    with pytest.raises(Refused, match=r"No such file.*did you mean .*problems\.jsonl"):
        use(jsonl(file.with_name("problem.jsonl")))


def test_a_folder_or_an_unreadable_file_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(Refused, match="Is a directory"):
        jsonl(tmp_path).load("train")
    file.chmod(0)
    try:
        file.read_bytes()
    except PermissionError:  # root reads everything
        with pytest.raises(Refused, match="Permission denied"):
            jsonl(file).load("train")
    finally:
        file.chmod(stat.S_IRUSR | stat.S_IWUSR)


def test_the_test_split_is_refused_if_nothing_is_held_out(file: Path) -> None:
    data = jsonl(file, num_test=0)
    assert len(data.load("train")) == 10
    with pytest.raises(Refused, match="nothing can be evaluated"):
        data.load("test")


def test_a_path_must_be_given_unless_an_earlier_step_makes_the_data() -> None:
    nothing = jsonl(None)
    for read in (nothing.fingerprint, lambda: nothing.load("train")):
        with pytest.raises(Refused, match=r"add dataset\.path=FILE\.jsonl"):
            read()
