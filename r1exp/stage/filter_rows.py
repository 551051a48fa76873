"""Leaves out rows that should not be learned from (stage=filter).

    artifact/data.jsonl     the rows that are kept, in their order; those of a file exactly as they were
    artifact/dropped.jsonl  one line for each row that is left out: its number, id, reason, and what it is a copy of
    artifact/facts.json     counts, and examples of each reason

The rows are read twice and never held in memory: first each is judged, and hashes of it are kept (r1exp.filtering); then they are
written. Each row has the first reason that applies, in the order of REASONS; duplicates are searched among the rows that are left.
The work is done by rank 0 and needs no torch, unless tokens are counted with a tokenizer that has no tokenizer.json. An interrupted
step begins again: the same rows give the same result.
"""

import json
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from r1exp.dataset.chats import chat_of
from r1exp.dataset.readers import read_rows
from r1exp.dataset.rows import text_of, value_in
from r1exp.distributed import is_main_process
from r1exp.errors import StepFailed
from r1exp.files import whole_folder, write_json
from r1exp.filtering.contamination import Copy, EvaluatedQuestions, templates_of
from r1exp.filtering.duplicates import Duplicates
from r1exp.filtering.languages import largest_share
from r1exp.filtering.texts import plain_hashes
from r1exp.model.preview import token_counter
from r1exp.paths import ArtifactPaths, StepPaths
from r1exp.prompt.chat import prompt_of
from r1exp.prompt.style import style_named
from r1exp.records import Message, Problem
from r1exp.stage.base import resolved_path
from r1exp.stage.config import StepConfig
from r1exp.stage.filter import Filter
from r1exp.stage.step import Step
from r1exp.step.progress import ProgressWriter

# Why a row is left out, in the order in which it is judged.
REASONS: Final = (
    "max_prompt_tokens", "max_total_tokens", "pass_rate", "language", "contamination", "duplicate", "near_duplicate",
)  # fmt: skip
_CODE: Final = {reason: number for number, reason in enumerate(REASONS, start=1)}  # 0: the row is kept
_HOW: Final = ("", "whole", "near", "ngram")
_SCRATCH: Final = ".filter-"  # prefix of the folder of temporary files
_LONGEST_EXAMPLE: Final = 600  # characters
_REPORTED: Final = 1000  # rows between two reports of progress


@dataclass(frozen=True, slots=True)
class Row:
    """A row to judge."""

    problem: Problem
    content: Mapping[str, Any]  # what is written
    place: str  # for messages


class Verdicts:
    """Why each row is left out, what it is a copy of, and the number that decided; 18 bytes a row."""

    def __init__(self) -> None:
        self.codes = array("B")
        self.partners = array("q")  # number of a row or of a question; -1: none
        self.values = array("d")  # tokens, rate, share or similarity
        self.how = array("B")  # how a row is a copy of a question

    def add(self, code: int = 0, value: float = 0.0, copy: Copy | None = None) -> None:
        """Add the verdict of the next row."""
        self.codes.append(code)
        self.partners.append(-1 if copy is None else copy.question)
        self.values.append(value if copy is None else copy.share)
        self.how.append(0 if copy is None else _HOW.index(copy.how))

    def duplicate(self, row: int, reason: str, partner: int, similarity: float) -> None:
        """Note that a row is a duplicate of an earlier one."""
        self.codes[row], self.partners[row], self.values[row] = _CODE[reason], partner, similarity

    def counts(self) -> Counter[int]:
        """Return how many rows have each code."""
        return Counter(self.codes)


def filter_rows(step: Step, folder: Path) -> str | None:
    """Write the artifact, on rank 0.

    Raises:
        Refused: a row cannot be read, or lacks a column that a filter needs.
        StepFailed: no row is left.
    """
    stage = step.config.stage
    assert isinstance(stage, Filter)
    if not is_main_process():
        return None
    for left in folder.glob(f"{_SCRATCH}*"):  # of an execution that was killed
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix=_SCRATCH))
    try:
        _Work(step, folder, stage, scratch).run()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return None


class _Work:
    """One execution of the step."""

    def __init__(self, step: Step, folder: Path, stage: Filter, scratch: Path) -> None:
        self._config = step.config
        self._stage = stage
        self._folder = folder
        self._sets = stage.evaluated(step.config, with_download=True)
        self._sizes: dict[str, int] = {}  # data set -> its number of questions
        self._verdicts = Verdicts()
        self._near_copies: Counter[int] = Counter()  # question -> rows
        self._tokens = _Tokens(step, stage) if stage.counts_tokens else None
        self._duplicates = None
        if stage.duplicates is not None:
            self._duplicates = Duplicates(
                scratch,
                similarity=stage.near_duplicates,
                ngram=stage.duplicate_ngram,
                permutations=stage.permutations,
            )

    def run(self) -> None:
        """Judge all rows, then write them."""
        questions = self._questions()
        number = self._stage.count(self._config)
        progress = ProgressWriter(self._folder, "rows", 2 * number) if number else None
        for row_number, row in enumerate(rows_of(self._config, self._stage)):
            self._judge(row_number, row, questions)
            if progress is not None and row_number % _REPORTED == 0:
                progress.move_to(row_number, "judging")
        num_rows = len(self._verdicts.codes)
        templates = templates_of(self._near_copies, num_rows)
        self._acquit(templates)
        self._find_duplicates()
        counts = self._verdicts.counts()
        if not counts[0]:
            raise StepFailed(
                f"none of the {num_rows} rows is left: {_listed(counts)}; loosen these filters (stage.*, see docs/filter.md)"
            )
        facts = {
            "num_rows": num_rows,
            "num_kept": counts[0],
            "dropped": {reason: counts[_CODE[reason]] for reason in self._active()},
            "evaluated": self._sizes,
            "num_templates": (questions.num_templates if questions else 0) + len(templates),
        }
        with whole_folder(StepPaths(self._folder).artifact) as unfinished:
            paths = ArtifactPaths(unfinished)
            with (
                paths.data.open("w", encoding="utf-8") as data,
                paths.dropped.open("w", encoding="utf-8") as dropped,
            ):
                examples = self._write(data, dropped, num_rows, progress)
            write_json(paths.facts, {**facts, "examples": examples})

    def _questions(self) -> EvaluatedQuestions | None:
        settings = self._stage.contamination
        if settings is None:
            return None
        questions = EvaluatedQuestions(
            similarity=settings.similarity,
            ngram=settings.ngram,
            whole_below=settings.whole_below,
            shared_ngram=settings.shared_ngram,
        )
        for name, dataset in self._sets.items():
            before = questions.num_questions
            for problem in dataset.stream("test"):
                questions.add(problem.text)
            self._sizes[name] = questions.num_questions - before
        questions.finish()
        return questions

    def _judge(self, number: int, row: Row, questions: EvaluatedQuestions | None) -> None:
        """Give a row its verdict; duplicates are found when all rows are known."""
        found = self._by_itself(row)
        if found is not None:
            self._verdicts.add(_CODE[found[0]], found[1])
            return
        copy = None if questions is None else questions.find(row.problem.text)
        self._verdicts.add(0 if copy is None else _CODE["contamination"], copy=copy)
        if copy is not None and copy.how == "near":
            self._near_copies[copy.question] += 1
        # A near copy of what turns out to be a template is judged as a duplicate like other rows.
        if self._duplicates is not None and (copy is None or copy.how == "near"):
            text = row.problem.text if self._stage.duplicates == "question" else _whole_text(row.problem)
            self._duplicates.add(number, plain_hashes(text))

    def _by_itself(self, row: Row) -> tuple[str, float] | None:
        """Return why a row is left out whatever the other rows are, and the number that decided."""
        stage = self._stage
        if self._tokens is not None and (found := self._tokens.too_long(row.problem)) is not None:
            return found
        if stage.bound_of_pass_rate is not None:
            rate = stage.pass_rate_of(row.content, row.place)
            low, high = (
                stage.min_pass_rate or 0.0,
                1.0 if stage.max_pass_rate is None else stage.max_pass_rate,
            )
            if rate is not None and not low <= rate <= high:
                return "pass_rate", rate
        if stage.languages:
            share = largest_share(_whole_text(row.problem), stage.languages)
            if share is not None and share < stage.language_share:
                return "language", share
        return None

    def _acquit(self, templates: frozenset[int]) -> None:
        """Keep the near copies of templates."""
        verdicts = self._verdicts
        for number in np.flatnonzero(np.frombuffer(verdicts.how, np.uint8) == _HOW.index("near")).tolist():
            if verdicts.partners[number] in templates:
                verdicts.codes[number], verdicts.how[number] = 0, 0
                verdicts.partners[number], verdicts.values[number] = -1, 0.0

    def _find_duplicates(self) -> None:
        if self._duplicates is None:
            return
        is_out = np.frombuffer(self._verdicts.codes, np.uint8) > 0
        for row, partner in self._duplicates.exact(is_out):
            self._verdicts.duplicate(row, "duplicate", partner, 1.0)
        for row, partner, similarity in self._duplicates.near(is_out):
            self._verdicts.duplicate(row, "near_duplicate", partner, similarity)
        self._duplicates.close()

    def _active(self) -> list[str]:
        """Return the reasons that the settings leave, in order."""
        stage = self._stage
        is_on = {
            "max_prompt_tokens": stage.max_prompt_tokens is not None,
            "max_total_tokens": stage.max_total_tokens is not None,
            "pass_rate": stage.bound_of_pass_rate is not None,
            "language": bool(stage.languages),
            "contamination": stage.contamination is not None,
            "duplicate": stage.duplicates is not None,
            "near_duplicate": stage.near_duplicates is not None,
        }
        return [reason for reason in REASONS if is_on[reason]]

    def _write(
        self, data: TextIO, dropped: TextIO, num_rows: int, progress: ProgressWriter | None
    ) -> dict[str, list[dict[str, Any]]]:
        """Write the rows that are kept and a line for each other; return the examples."""
        shown = _Examples(self._verdicts, self._stage.examples)
        number = -1
        for number, row in enumerate(rows_of(self._config, self._stage)):
            if number >= num_rows:
                break
            code = self._verdicts.codes[number]
            shown.see_row(number, row)
            if code == 0:
                data.write(json.dumps(row.content, ensure_ascii=False) + "\n")
            else:
                dropped.write(json.dumps(self._line(number, row), ensure_ascii=False) + "\n")
            if progress is not None and number % _REPORTED == 0:
                progress.move_to(num_rows + number, "writing")
        if number + 1 != num_rows:
            raise StepFailed(
                f"the rows changed while they were read: {num_rows} at first, then another number; start the run again"
            )
        position = 0
        for name, dataset in self._sets.items():
            for problem in dataset.stream("test") if shown.misses_questions else ():
                shown.see_question(position, f"{name}/{problem.id}", problem.text)
                position += 1
        return shown.examples

    def _line(self, number: int, row: Row) -> dict[str, Any]:
        verdicts = self._verdicts
        reason = REASONS[verdicts.codes[number] - 1]
        line = {
            "row": number,
            "id": row.problem.id,
            "reason": reason,
            "value": round(verdicts.values[number], 4),
        }
        if reason == "contamination":
            return line | {"question": verdicts.partners[number], "how": _HOW[verdicts.how[number]]}
        return line if verdicts.partners[number] < 0 else line | {"copy_of_row": verdicts.partners[number]}


class _Examples:
    """The first dropped rows of each reason, with what they are copies of."""

    def __init__(self, verdicts: Verdicts, number: int) -> None:
        self._verdicts = verdicts
        self.examples: dict[str, list[dict[str, Any]]] = {}
        self._of_row: dict[int, list[dict[str, Any]]] = {}  # partner -> examples that name it
        self._of_question: dict[int, list[dict[str, Any]]] = {}
        self._own: dict[int, dict[str, Any]] = {}  # row -> example
        codes = np.frombuffer(verdicts.codes, np.uint8)
        for reason, code in _CODE.items():
            for row in np.flatnonzero(codes == code)[:number].tolist():
                self._expect(row, reason)

    def _expect(self, row: int, reason: str) -> None:
        verdicts = self._verdicts
        example: dict[str, Any] = {"value": round(verdicts.values[row], 4)}
        self._own[row] = example
        self.examples.setdefault(reason, []).append(example)
        partner = verdicts.partners[row]
        if reason == "contamination":
            example["how"] = _HOW[verdicts.how[row]]
            self._of_question.setdefault(partner, []).append(example)
        elif partner >= 0:
            self._of_row.setdefault(partner, []).append(example)

    @property
    def misses_questions(self) -> bool:
        """Whether an example is a copy of a question."""
        return bool(self._of_question)

    def see_row(self, number: int, row: Row) -> None:
        """Take what the examples need of a row."""
        if number in self._own:
            self._own[number] |= {"id": row.problem.id, "text": _short(row.problem.text)}
        for example in self._of_row.get(number, ()):
            example |= {"copy_of": row.problem.id, "copied_text": _short(row.problem.text)}

    def see_question(self, number: int, name: str, text: str) -> None:
        """Take what the examples need of an evaluated question."""
        for example in self._of_question.get(number, ()):
            example |= {"copy_of": name, "copied_text": _short(text)}


class _Tokens:
    """Counts tokens as the model receives a row."""

    def __init__(self, step: Step, stage: Filter) -> None:
        self._stage = stage
        self._settings = step.config.prompt
        self._style = style_named(step.config.prompt.style)
        self._prompt, self._whole = _counters(step)

    def too_long(self, problem: Problem) -> tuple[str, float] | None:
        """Return which limit a row is above, and its tokens."""
        prompt = prompt_of(problem, self._settings)
        most, most_of_all = self._stage.max_prompt_tokens, self._stage.max_total_tokens
        if most is not None and (number := self._prompt(prompt)) > most:
            return "max_prompt_tokens", number
        if most_of_all is None:
            return None
        text = self._answer(problem)
        turns = [*prompt, {"role": "assistant", "content": text}]
        number = self._prompt(prompt) if text is None else self._whole(turns)  # type: ignore[arg-type]
        return ("max_total_tokens", number) if number > most_of_all else None

    def _answer(self, problem: Problem) -> str | None:
        """Return what SFT would learn of a problem; None if there is nothing."""
        solution = problem.columns.get("solution")
        if problem.completion is not None or solution is None:
            return problem.completion
        return str(solution) if problem.answer is None else self._style.write(str(solution), problem.answer)


def _counters(step: Step) -> tuple[Callable[[list[Message]], int], Callable[[list[Message]], int]]:
    """Return functions that count the tokens of a prompt, and of a whole conversation."""
    model = step.config.model
    prompt, whole = token_counter(model, is_prompt=True), token_counter(model)
    if prompt is not None and whole is not None:
        return prompt, whole
    from r1exp.model.load import (
        load_tokenizer,
    )  # imports torch; a model of the hub, or one without tokenizer.json

    tokenizer = load_tokenizer(step.model_path, model)

    def count(turns: list[Message], is_prompt: bool) -> int:
        found = tokenizer.apply_chat_template(
            turns, tokenize=True, return_dict=True, add_generation_prompt=is_prompt
        )
        return len(found["input_ids"])

    return (lambda turns: count(turns, True)), (lambda turns: count(turns, False))


def rows_of(config: StepConfig, stage: Filter) -> Iterator[Row]:
    """Yield the rows of a file, or the training problems of the data set as rows of such a file."""
    if stage.path is None:
        for problem in stage.problems(config):
            content = _pair_of(problem) if config.dataset.has_pairs else _row_of(problem)
            yield Row(problem, content, f"problem {problem.id}")
        return
    for number, (place, row) in enumerate(read_rows(resolved_path(stage.path), default=".jsonl")):
        yield Row(_problem_of(row, place, number), row, place)


def _problem_of(row: Mapping[str, Any], place: str, number: int) -> Problem:
    """Return the problem of a row of a file: a question, a chat with a question, or a whole conversation."""
    column = next((name for name in ("question", "messages", "prompt") if name in row), "question")
    value = value_in(row, column, place, "its name in the file")
    identity = str(row.get("id") or f"row-{number}")
    answer, columns = row.get("answer"), dict(row)
    answer = None if answer is None else str(answer)
    if isinstance(value, list):
        chat = chat_of(value, column, place)
        return Problem(identity, chat.question, answer, columns, chat.earlier, chat.completion)
    return Problem(identity, text_of(value, column, place), answer, columns)


def _row_of(problem: Problem) -> dict[str, Any]:
    """Return a row as dataset=jsonl reads it: with `messages` where the whole conversation is learned."""
    row = {**problem.columns, "id": problem.id}
    if problem.completion is not None:
        return row | {"messages": [*problem.messages, {"role": "assistant", "content": problem.completion}]}
    return row | {
        "question": problem.messages if problem.earlier else problem.prompt,
        "answer": problem.answer,
    }


def _pair_of(problem: Problem) -> dict[str, Any]:
    """Return a row as dataset=preference reads it."""
    return {**problem.columns, "prompt": problem.prompt}


def _whole_text(problem: Problem) -> str:
    """Return question and answer: the solution, the completion of a chat, or both answers of a pair."""
    names = ("solution", "chosen", "rejected")
    parts = [problem.completion, *(problem.columns.get(name) for name in names), problem.answer]
    return "\n".join([problem.text, *(str(part) for part in parts if part is not None)])


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_EXAMPLE else f"{text[: _LONGEST_EXAMPLE - 3]}..."


def _listed(counts: Counter[int]) -> str:
    return ", ".join(f"{counts[code]} by {reason}" for reason, code in _CODE.items() if counts[code])
