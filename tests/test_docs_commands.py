"""Every command in README.md and docs/ is one that r1exp accepts: it is composed and planned, and nothing is run.

A command is an indented or fenced line that begins with `r1exp`, or the last cell of a row of a table. Where its comment says `8 GPUs`, it is planned for a machine
with that many. RUN, runs/... and other words in capitals stand for what a reader has, and are left out or made here.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

from r1exp.config.compose import search_path_of, session
from r1exp.plan.members import command_of, members_of
from r1exp.plan.slurm_job import job_of
from r1exp.verbs.options import parse_options

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_COMMAND = re.compile(r"(?:\$ )?(?:\.venv/bin/)?r1exp(?P<rest>$| +[^─ ].*$)")
_CELL = re.compile(r"\|.* \| `r1exp(?P<rest> [^`]+)` \|$")
_GPUS = re.compile(r"(\d+) GPUs")
_PLANNED = {"run", "plan", "check"}
_OF_A_READER = re.compile(r"=(?:\.\.\.|RUN|runs/\S*)$")  # overrides that name an earlier run
# The page shows the files that these commands need, and tests/test_docs_extending.py makes them.
_OF_THEIR_PAGE = (
    "--config-dir",
    "-sc install",
    "dataset=cubes",
    "words:few_words",
    "my_rewards:",
    "my_package.",
)


def commands(page: Path) -> Iterator[str]:
    """Yield the commands of a page, each on one line with its comment."""
    is_fenced, joined = False, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
        code = line.strip() if is_fenced or line.startswith("    ") else ""
        if code.endswith("\\"):
            joined += code[:-1]
            continue
        found = _CELL.match(line) or _COMMAND.match(joined + code)
        joined = ""
        if found is not None:
            yield found["rest"].strip()


def planned(page: Path) -> Iterator[tuple[str, list[str], int | None]]:
    """Yield (text, arguments, number of GPUs) of each command that can be planned."""
    for text in commands(page):
        lexer = shlex.shlex(text, posix=True, punctuation_chars=">|")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words = list(lexer)
        words = words[: next((k for k, word in enumerate(words) if word in (">", "|", "...")), len(words))]
        verb = words[0] if words and words[0].isalpha() else "run"
        if verb not in _PLANNED or any(part in text for part in _OF_THEIR_PAGE):
            continue
        gpus = _GPUS.search(text.partition("#")[2])
        yield text, words[words[:1] == [verb] :], None if gpus is None else int(gpus[1])


FOUND = [(page.name, *case) for page in PAGES for case in planned(page)]
CASES = [pytest.param(*case, id=f"{name}: {case[0]}") for name, *case in FOUND]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that a reader of the documentation has."""
    folder = tmp_path_factory.mktemp("reader")
    sums = [
        {
            "question": f"What is {k} + 1?", "problem": f"What is {k} + 1?", "prompt": f"What is {k} + 1?",
            "answer": str(k + 1), "solution": f"{k} and 1 are {k + 1}.",
        }
        for k in range(2000)
    ]  # fmt: skip
    code = [{**row, "tests": [{"input": "1", "output": "2"}], "language": "python"} for row in sums]
    choices = [{**row, "answer": "A", "options": ["1", "2"], "choices": ["1", "2"]} for row in sums]
    chats = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]} for _ in sums]  # fmt: skip
    pairs = [{"prompt": f"Hi, {k}", "chosen": "Hello", "rejected": "No"} for k, _ in enumerate(sums)]
    rows: dict[str, list[dict[str, Any]]] = {"problems": code, "questions": choices, "gpqa": choices, "chats": chats, "prompts": sums, "pairs": pairs}  # fmt: skip
    sampled = folder / "SAMPLED" / "steps" / "01-sample" / "artifact"
    labelled = folder / "LABELLED" / "steps" / "01-generate" / "artifact"
    for made in (sampled, labelled):
        made.mkdir(parents=True)
    for path in [
        *(folder / f"{name}.jsonl" for name in rows),
        sampled / "data.jsonl",
        labelled / "data.jsonl",
    ]:
        content = rows.get(path.stem) or [
            row | {"pass_rate": 0.5} for row in sums
        ]  # as stage=sample writes them
        path.write_text("".join(f"{json.dumps(row)}\n" for row in content), encoding="utf-8")
    (folder / "my" / "gsm8k").mkdir(parents=True)
    for name in ("math", "problems"):
        pandas.DataFrame(sums).to_parquet(folder / f"{name}.parquet")
    worked = [{**row, "answer": f"{row['solution']}\n#### {row['answer']}"} for row in sums]
    for name, part in (("train", worked[100:]), ("test", worked[:100])):
        pandas.DataFrame(part).to_parquet(folder / "my" / "gsm8k" / f"{name}.parquet")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("text", "arguments", "num_gpus"), CASES)
def test_a_command_of_the_documentation_is_accepted(
    text: str, arguments: list[str], num_gpus: int | None, reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reader)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words: dict[str, str] = {}
    rest = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in ("device", "devices") and equals:
            words[name] = value
        elif name == "stage.teacher":
            rest.append("stage.teacher=org/teacher")  # the only such override that a step cannot do without
        elif not _OF_A_READER.search(argument) and argument not in (
            "--launch",
            "--full",
            "--yaml",
            "--attack",
        ):
            rest.append(argument)
    if num_gpus is not None or words:
        number = num_gpus or int(words.get("devices", "8"))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(number))))
        rest.append("launcher.device=cuda")
    else:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    options = parse_options(rest, takes_range=True)
    folders, overrides = search_path_of(options.overrides)
    with session(options.config_dirs, folders):
        members = members_of(command_of(overrides, options.is_multirun))
        assert members
        options.span.positions(members[0].steps)  # whether its steps are finished depends on the reader
        job_of(members[0].experiment.run, members[0].steps)


def test_the_commands_of_the_documentation_are_found() -> None:
    texts = [text for _, text, _, _ in FOUND]
    assert len(texts) > 60
    assert any("rollout=vllm_server rollout.num_devices=2" in text for text in texts)
